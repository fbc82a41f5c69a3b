"""How long a forward pass takes."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError
from ranvier.measure.batches import each, extent
from ranvier.measure.count import isolated, undisturbed


@dataclass(frozen=True)
class Latency:
    """Wall-clock of one forward pass over a batch, in milliseconds: median and spread of `runs` passes."""

    batch: int
    median_ms: float
    p10_ms: float
    p90_ms: float
    runs: int
    threads: int
    device: str

    @property
    def samples_per_s(self) -> float:
        """Samples a second at this batch size."""
        return self.batch / self.median_ms * 1e3

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {**asdict(self), "samples_per_s": self.samples_per_s}


def latency(model: nn.Module, x: Tensor, *, runs: int = 20, warmup: int = 3, time_first: bool | None = None) -> Latency:
    """Time forward passes of `model` on the batch `x`, in eval mode without gradients, after `warmup` passes.

    Args:
        model: any module; it is left in the mode it was in, and carried state is not touched.
        x: `[B, ...]`, or `[T, B, ...]` with `time_first` or five axes.
        runs: timed passes, at least 1.
        warmup: passes before, which compile kernels and fill caches.
        time_first: whether `x` is `[T, B, ...]`; None: when it has five axes.
    """
    for name, value, least in (("runs", runs, 1), ("warmup", warmup, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ArgumentError(f"{name} must be an integer of at least {least}, got {value!r}")
    [batch] = each(x)
    size = extent(model, batch, time_first, None, None)
    times: list[float] = []
    with undisturbed(model), isolated(model):
        for run in range(warmup + runs):
            start = time.perf_counter()
            model(batch)
            if batch.is_cuda:
                torch.cuda.synchronize(batch.device)
            if run >= warmup:
                times.append((time.perf_counter() - start) * 1e3)
    p10, median, p90 = torch.quantile(torch.tensor(times, dtype=torch.float64), torch.tensor([0.1, 0.5, 0.9]).double())
    return Latency(
        size.samples, float(median), float(p10), float(p90), runs, torch.get_num_threads(), str(batch.device)
    )
