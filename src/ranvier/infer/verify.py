"""Is the converted net the original? Logits, predictions, and what really enters its layers."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError
from ranvier.infer.counts import plain
from ranvier.measure import Audit, audit


@dataclass(frozen=True)
class Equivalence:
    """A converted net beside its original.

    Attributes:
        samples: samples compared.
        max_difference: largest difference of per-step logits, in the precision of the comparison.
        same_predictions: samples whose decision (mean over time) is the same.
        atol, dtype: the allowed difference and the precision.
        exempt: layers into which other values than zeros and ones went, with what it was (the analog image).
        expanded: synaptic layers and products with binary input.
    """

    samples: int
    max_difference: float
    same_predictions: int
    atol: float
    dtype: str
    exempt: tuple[tuple[str, str], ...]
    expanded: int

    @property
    def equal(self) -> bool:
        """Whether logits agree within `atol` and every prediction is the same."""
        return self.max_difference <= self.atol and self.same_predictions == self.samples

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "equal": self.equal}

    def __str__(self) -> str:
        lines = [
            f"{'equal' if self.equal else 'NOT equal'}: logits differ by {self.max_difference:.3g} at most "
            f"({self.dtype}, allowed {self.atol:g}), predictions equal on {self.same_predictions} of {self.samples} "
            "samples",
            f"binary spikes enter {self.expanded} layers and products"
            + (f"; exempt: {len(self.exempt)}" if self.exempt else ", without exception"),
        ]
        return "\n".join([*lines, *(f"  {name}: {entering}" for name, entering in self.exempt)])


def batches_of(x: Tensor | Iterable[Any]) -> Iterator[Tensor]:
    """Batches, also out of `(x, y)` pairs."""
    if isinstance(x, Tensor):
        yield x
        return
    for batch in x:
        yield batch[0] if isinstance(batch, tuple | list) else batch


def _run(net: nn.Module, batch: Tensor) -> Tensor:
    """Both nets draw the same random numbers, where an encoder draws any."""
    devices = [batch.device] if batch.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(0)
        return plain(net(batch))


@torch.no_grad()
def verify_equivalence(
    original: nn.Module,
    converted: nn.Module,
    x: Tensor | Iterable[Any],
    *,
    atol: float = 1e-6,
    dtype: Literal["float64", "float32"] = "float64",
    looked_into: int = 8,
) -> Equivalence:
    """Compare `converted` with `original` on `x`, and look at what enters the layers of `converted`.

    In float64 the two agree to about 1e-12 unless something is wrong; in float32 a current that lands on a threshold
    can be rounded to either side, so that now and then a spike differs.

    Args:
        original, converted: nets that take `x`; neither is changed.
        x: a batch, or batches (or pairs that start with one), such as a test set.
        atol: largest difference of logits that counts as equal.
        dtype: precision of the comparison.
        looked_into: samples of the first batch whose way through the net is recorded.
    """
    if dtype not in ("float64", "float32"):
        raise ArgumentError(f"dtype must be 'float64' or 'float32', got {dtype!r}")
    work = getattr(torch, dtype)
    pair = [copy.deepcopy(net).to(work).eval() for net in (original, converted)]
    samples = same = 0
    worst = 0.0
    looked: Audit | None = None
    for batch in batches_of(x):
        batch = batch.to(work)
        a, b = (_run(net, batch) for net in pair)
        if a.shape != b.shape:
            raise ArgumentError(f"converted: its output has shape {tuple(b.shape)}, the original's {tuple(a.shape)}")
        difference = float((a - b).abs().amax()) if a.numel() else 0.0
        worst = max(worst, difference if difference == difference else float("inf"))
        decided = [y.mean(0).argmax(-1) if y.dim() == 3 else y.argmax(-1) for y in (a, b)]
        samples += decided[0].numel()
        same += int((decided[0] == decided[1]).sum())
        if looked is None:
            few = batch[:, :looked_into] if batch.dim() == 5 else batch[:looked_into]
            looked = audit(pair[1], few, encoder=())
    if looked is None:
        raise ArgumentError("x: no samples to compare on")
    exempt = tuple((row.name, row.entering) for row in looked.rows if row.verdict == "violation")
    expanded = sum(row.verdict in ("spikes", "silent") for row in looked.rows)
    return Equivalence(samples, worst, same, atol, dtype, exempt, expanded)
