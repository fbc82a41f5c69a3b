"""Cumulative sums: many small surprises in a row are one alarm."""

from __future__ import annotations

import torch
from torch import Tensor

from ranvier.errors import ArgumentError

CLIP = 20.0
"""Standard deviations that one tick can count for at most."""


class Cusum:
    """C ← max(0, C + x − drift) for standardised x; alarm while C > threshold, until C is back under `lower`.

    Args:
        mean, std: of the score on clean data.
        drift, threshold, lower: in standard deviations.
        ceiling: C does not grow beyond it, so that it can come down again.
    """

    def __init__(self, mean: float = 0.0, std: float = 1.0, drift: float = 0.5, threshold: float = 5.0,
                 lower: float | None = None, ceiling: float | None = None) -> None:  # fmt: skip
        if not std > 0 or not threshold > 0 or drift < 0:
            raise ArgumentError(f"expected std > 0, threshold > 0 and drift >= 0; got {std}, {threshold}, {drift}")
        self.mean, self.std, self.drift, self.threshold = mean, std, drift, threshold
        self.lower = threshold / 2 if lower is None else lower
        self.ceiling = 2 * threshold if ceiling is None else ceiling

    def reset(self, rows: int) -> None:
        """Begin at zero."""
        self.value = torch.zeros(rows, dtype=torch.float64)
        self.alarm = torch.zeros(rows, dtype=torch.bool)

    def step(self, score: Tensor, where: Tensor | None = None) -> Tensor:
        """Add the scores `[N]` of one tick (only in rows `where`); returns the alarm, bool `[N]`."""
        x = ((score - self.mean) / self.std).clamp(-CLIP, CLIP)
        new = (self.value + x - self.drift).clamp(0, self.ceiling)
        self.value = new if where is None else torch.where(where, new, self.value)
        self.alarm = (self.value > self.threshold) | (self.alarm & (self.value > self.lower))
        return self.alarm

    @classmethod
    def tuned(cls, clean: Tensor, per_second: float = 1e-3, tick_s: float = 0.1, shift: float = 6.0) -> Cusum:
        """Standardised on clean scores `[T, N]` (NaN: no score), with drift and threshold that give at most
        `per_second` alarms a second on them and, of those, find a lasting rise by `shift` deviations soonest."""
        if clean.dim() != 2 or not bool(torch.isfinite(clean).any()):
            raise ArgumentError(f"clean scores must be [T, N] with some finite ones, got {tuple(clean.shape)}")
        finite = torch.isfinite(clean)
        mean, std = float(clean[finite].mean()), float(clean[finite].std().clamp_min(1e-6))
        x = torch.where(finite, ((clean - mean) / std).clamp(-CLIP, CLIP), 0.0)
        allowed = per_second * tick_s * int(finite.sum())
        best, soonest = cls(mean, std, 0.5, 5.0), float("inf")
        for drift in (0.5, 1.0, 1.5, 2.0, 3.0, 4.0):
            peaks = _peaks(x - drift, finite)
            # the threshold that only the allowed number of excursions exceeds; a little more, for runs not seen
            ordered = peaks.sort(descending=True).values
            reach = float(ordered[min(int(allowed), len(ordered) - 1)]) if len(ordered) else 0.0
            threshold = max(5.0, 1.25 * reach)
            delay = threshold / (shift - drift)
            if delay < soonest:
                best, soonest = cls(mean, std, drift, threshold), delay
        best.reset(1)
        return best


def _peaks(step: Tensor, where: Tensor) -> Tensor:
    """The highest point of each excursion of the sum from zero, over all columns."""
    value = torch.zeros(step.shape[1], dtype=torch.float64)
    top = torch.zeros_like(value)
    found: list[Tensor] = []
    for t in range(len(step)):
        value = torch.where(where[t], (value + step[t]).clamp_min(0), value)
        ended = (value == 0) & (top > 0)
        found.append(top[ended])
        top = torch.where(ended, 0.0, torch.maximum(top, value))
    return torch.cat([*found, top[top > 0]])
