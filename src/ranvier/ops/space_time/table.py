"""The synapses of a kernel as a list: what is left of it after pruning, and what event-driven hardware stores."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ranvier.errors import ArgumentError, ShapeError


@dataclass(frozen=True)
class SpaceTimeSynapses:
    """Synapses that every place has, sorted by the polarity of their input.

    An event of polarity p at (t, row, column) adds `weight` to neuron `target` at (t + `delay`, row + `rows`, column +
    `columns`).

    Attributes:
        ptr: int64 `[P + 1]`: the synapses of polarity p are entries `ptr[p] .. ptr[p + 1] − 1`.
        target, delay, rows, columns: int32 `[S]`.
        weight: `[S]`.
        shape: of the dense kernel, `(C, P, K, KH, KW)`.
    """

    ptr: Tensor
    target: Tensor
    delay: Tensor
    rows: Tensor
    columns: Tensor
    weight: Tensor
    shape: tuple[int, int, int, int, int]

    def __len__(self) -> int:
        return len(self.weight)

    @property
    def fan_out(self) -> Tensor:
        """`[P]`: synapses of one event."""
        return self.ptr.diff()

    @classmethod
    def from_dense(cls, kernel: Tensor, largest: int | None = None) -> SpaceTimeSynapses:
        """The weights of `kernel` `[C, P, K, KH, KW]` that are not 0, or the `largest` ones of them by magnitude."""
        if kernel.dim() != 5:
            raise ShapeError(f"kernel must be [C, P, K, KH, KW], got shape {tuple(kernel.shape)}")
        kernel = kernel.detach()
        if largest is not None:
            kernel = kernel * strongest(kernel, largest)
        c, p, n, i, j = (kernel != 0).nonzero(as_tuple=True)
        order = torch.sort(p, stable=True).indices
        c, p, n, i, j = (index[order] for index in (c, p, n, i, j))
        _, polarities, taps, height, width = kernel.shape
        counts = torch.bincount(p, minlength=polarities)
        return cls(
            torch.cat([counts.new_zeros(1), counts.cumsum(0)]), c.int(), (taps - 1 - n).int(), (height // 2 - i).int(),
            (width // 2 - j).int(), kernel[c, p, n, i, j], tuple(kernel.shape),  # pyright: ignore[reportArgumentType]
        )  # fmt: skip

    def to_dense(self) -> Tensor:
        """The kernel `[C, P, K, KH, KW]`; what the list lacks is 0."""
        _, polarities, taps, height, width = self.shape
        kernel = self.weight.new_zeros(self.shape)
        p = torch.repeat_interleave(torch.arange(polarities), self.fan_out)
        place = (self.target.long(), p, taps - 1 - self.delay.long(), height // 2 - self.rows.long(),
                 width // 2 - self.columns.long())  # fmt: skip
        return kernel.index_put(place, self.weight, accumulate=True)


def strongest(weight: Tensor, count: int) -> Tensor:
    """1 where a weight is among the `count` of largest magnitude, else 0 (of equal ones the first ones count)."""
    if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= weight.numel():
        raise ArgumentError(f"count must be an integer from 0 to {weight.numel()}, got {count!r}")
    order = weight.detach().abs().flatten().sort(descending=True, stable=True).indices
    kept = torch.zeros_like(weight.flatten())
    kept[order[:count]] = 1
    return kept.view_as(weight)
