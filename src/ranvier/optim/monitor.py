"""How often, where and how far gradients spike."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError, ShapeError


def gradient_spike_scores(history: Tensor) -> Tensor:
    """|g_i| over the mean of |g_j| of its coordinate, for gradients `[steps, ...]`; 0 where all are 0.

    The score of Huang et al. (ICLR 2025), who call a coordinate spiked above 50 over a history of 1000 steps.
    """
    if history.dim() < 1 or len(history) == 0:
        raise ShapeError(f"history must be [steps, ...] with at least one step, got {tuple(history.shape)}")
    size = history.abs()
    mean = size.mean(0)
    return torch.where(mean > 0, size / mean, torch.zeros_like(size))


@dataclass(frozen=True)
class SpikeRecord:
    """One layer at one step: how many of its `coordinates` scored above the threshold, and the largest score."""

    step: int
    layer: str
    kind: str
    spiked: int
    coordinates: int
    largest: float


class GradientSpikeMonitor:
    """Scores the gradients of `model` while it trains: call `update()` after backward and before the optimiser.

    The mean of |g| is over the steps seen so far, this one included, and over the last `window / 2` to `window` of them
    once there are more: two sums a parameter, no stored gradients. A score cannot exceed the number of steps in the
    mean, so nothing is called spiked before step `threshold`.

    Args:
        model: the parameters that are watched.
        window: longest history in steps.
        threshold: score from which a coordinate counts as spiked; below `window / 2`, or it could never be reached.
    """

    def __init__(self, model: nn.Module, window: int = 1000, threshold: float = 50.0) -> None:
        if not isinstance(window, int) or window < 2:
            raise ArgumentError(f"window must be an integer of at least 2, got {window!r}")
        if not 0 < threshold <= window / 2:
            raise ArgumentError(f"threshold must lie above 0 and up to window / 2 = {window / 2:g}, got {threshold!r}")
        self.window, self.threshold = window, threshold
        self.step = 0
        self.records: list[SpikeRecord] = []
        kinds = {name: type(module).__name__ for name, module in model.named_modules()}
        self._layers = [
            (name, kinds.get(name.rpartition(".")[0], ""), p) for name, p in model.named_parameters() if p.requires_grad
        ]
        self._sums: dict[str, tuple[Tensor, Tensor]] = {}
        self._counts: dict[str, list[int]] = {}

    @torch.no_grad()
    def update(self) -> list[SpikeRecord]:
        """Take in the present gradients; the records of this step, one for each parameter that has one."""
        self.step += 1
        found: list[SpikeRecord] = []
        for name, kind, p in self._layers:
            if p.grad is None:
                continue
            size = p.grad.abs().float() if p.grad.dtype != torch.float64 else p.grad.abs()
            if name not in self._sums:
                self._sums[name] = torch.zeros_like(size), torch.zeros_like(size)
                self._counts[name] = [0, 0]
            (earlier, now), counts = self._sums[name], self._counts[name]
            now += size
            counts[1] += 1
            total = earlier + now
            # |g| > s mean, without dividing by a mean of 0
            scaled = size * sum(counts)
            spiked = int((scaled > self.threshold * total).sum())
            largest = (
                float(torch.where(total > 0, scaled / total, torch.zeros_like(total)).max()) if total.numel() else 0
            )
            found.append(SpikeRecord(self.step, name, kind, spiked, p.numel(), largest))
            if counts[1] * 2 >= self.window:
                self._sums[name] = now, earlier.zero_()
                self._counts[name] = [counts[1], 0]
        self.records += found
        return found

    def by_layer(self) -> dict[str, dict[str, Any]]:
        """For each parameter: kind of its layer, share of spiked coordinates over all steps, largest score."""
        table: dict[str, dict[str, Any]] = {}
        for record in self.records:
            row = table.setdefault(record.layer, {"kind": record.kind, "spiked": 0, "seen": 0, "largest": 0.0})
            row["spiked"] += record.spiked
            row["seen"] += record.coordinates
            row["largest"] = max(row["largest"], record.largest)
        for row in table.values():
            row["share"] = row["spiked"] / row["seen"] if row["seen"] else 0.0
        return table

    def export(self) -> dict[str, Any]:
        """Everything as plain data, for JSON."""
        return {
            "window": self.window, "threshold": self.threshold, "steps": self.step, "layers": self.by_layer(),
            "records": [asdict(record) for record in self.records],
        }  # fmt: skip
