"""How a call's tensors become the contiguous arrays of a kernel, whatever the order of their axes in memory."""

from __future__ import annotations

import math

import torch
from torch import Tensor

HALF = (torch.float16, torch.bfloat16)


def work_dtype(x: Tensor) -> torch.dtype:
    """The dtype in which input like `x` is computed."""
    return torch.float32 if x.dtype in HALF else x.dtype


def in_strides(x: Tensor, strides: tuple[int, ...]) -> Tensor:
    """`x` with these strides: what kept it for us (`save_on_cpu`, say) may have laid it out anew, while the states that
    are saved beside it are in the order that it had."""
    return (
        x if x.stride() == strides else torch.empty_strided(x.shape, strides, dtype=x.dtype, device=x.device).copy_(x)
    )


def _order(x: Tensor) -> tuple[int, ...]:
    """The order of the axes of `x` in memory, time first, where it is dense (channels-last, say): no copy is needed
    then. The given order where it is not."""
    given = tuple(range(x.dim()))
    if x.is_contiguous():
        return given
    stored = (0, *sorted(given[1:], key=lambda d: (-x.stride(d), d)))
    return stored if x.permute(stored).is_contiguous() else given


def _back(order: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(order.index(d) for d in range(len(order)))


class Layout:
    """Turns tensors of a call into the contiguous arrays of the kernels, all in the memory order of `x`, and back.

    `x` is `[T, B, ...]`, or `[steps of all sequences, ...]` of a packed batch of `batch` sequences.
    """

    def __init__(self, x: Tensor, batch: int | None = None) -> None:
        self.x, self.order = x, _order(x) if batch is None else tuple(range(x.dim()))
        self.back = _back(self.order)
        self.plain = self.back == tuple(range(x.dim()))
        self.dtype = work_dtype(x)
        self.step_shape = tuple(x.shape[1:]) if batch is None else (batch, *x.shape[1:])
        self.step = tuple(d - 1 for d in self.order[1:]) if batch is None else self.order
        self.columns = math.prod(self.step_shape)

    def sequence(self, t: Tensor, dtype: torch.dtype) -> Tensor:
        """`[T, M]`."""
        if self.plain and t.dtype == dtype and t.is_contiguous():  # in small calls, every view costs as much as a step
            return t.detach().view(t.shape[0], -1)
        return t.detach().to(dtype).permute(self.order).contiguous().view(t.shape[0], -1)

    def column(self, t: Tensor) -> Tensor:
        """`[M]`, from anything that broadcasts to one step."""
        return t.detach().to(self.dtype).expand(self.step_shape).permute(self.step).contiguous().view(-1)

    def new_sequence(self, dtype: torch.dtype | None = None) -> Tensor:
        """Memory for a result like `x`, in its layout."""
        return self.x.new_empty([self.x.shape[d] for d in self.order], dtype=dtype).permute(self.back)

    def sequence_like(self, found: Tensor) -> Tensor:
        """A kernel's `[T, M]` result in the shape and layout of `x`."""
        return found.view([self.x.shape[d] for d in self.order]).permute(self.back)

    @property
    def dense(self) -> bool:
        """Whether `x` is read where it lies."""
        return self.x.permute(self.order).is_contiguous()

    def new_states(self, count: int) -> Tensor:
        """Memory for `count` states `[S, ...]`."""
        shape = [self.step_shape[d] for d in self.step]
        back = (0, *(d + 1 for d in _back(self.step)))
        return self.x.new_empty([count, *shape], dtype=self.dtype).permute(back)

    def states(self, t: Tensor) -> Tensor:
        """`[S, M]`."""
        order = (0, *(d + 1 for d in self.step))
        return t.detach().to(self.dtype).permute(order).contiguous().view(t.shape[0], self.columns)

    def step_like(self, column: Tensor) -> Tensor:
        """A kernel's `[M]` result in the shape of one step."""
        return column.view([self.step_shape[d] for d in self.step]).permute(_back(self.step))
