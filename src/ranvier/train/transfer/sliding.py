"""Sliding training: static samples are replaced by the events that they are paired with, ever more often."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from ranvier.errors import ArgumentError, ShapeError

Mode = Literal["power", "switch", "none"]
MODES = ("power", "switch", "none")


class SlidingReplacement:
    """Replaces each static sample by its event partner with probability `min(1, (step / total_steps) ** power)`.

    He et al. (AAAI 2024) with power 3: 1.6 % after a quarter of the training, 12.5 % after half, a quarter on average.
    Update `step` counts from 0: `b + e · batches` of batch b in epoch e.

    Args:
        total_steps: updates of the whole training.
        power: 0 replaces always.
        mode: "power", or an ablation: "switch" (0 in the first half, then 1) or "none" (0).
    """

    def __init__(self, total_steps: int, power: float = 3.0, mode: Mode = "power") -> None:
        if not isinstance(total_steps, int) or isinstance(total_steps, bool) or total_steps < 1:
            raise ArgumentError(f"total_steps must be an integer of at least 1, got {total_steps!r}")
        if not 0 <= power < math.inf:
            raise ArgumentError(f"power must be a number of at least 0, got {power!r}")
        if mode not in MODES:
            raise ArgumentError(f"mode must be one of {', '.join(MODES)}; got {mode!r}")
        self.total_steps, self.power = total_steps, float(power)
        self.mode: Mode = mode

    def probability(self, step: float) -> float:
        """Of replacing a sample at update `step` (from 0; 1 from `total_steps` on)."""
        if not step >= 0:
            raise ArgumentError(f"step must be at least 0, got {step!r}")
        if self.mode == "none":
            return 0.0
        done = step / self.total_steps
        if self.mode == "switch":
            return float(done > 0.5)
        return min(1.0, done**self.power)

    def replaced(self, count: int, step: float, generator: torch.Generator | None = None) -> Tensor:
        """Which of `count` samples are replaced, bool `[count]`, drawn on the CPU."""
        return torch.rand(count, generator=generator) < self.probability(step)

    def mix(self, static: Tensor, event: Tensor, step: float, generator: torch.Generator | None = None) -> Tensor:
        """Static samples, some of them replaced: `[T, B, ...]`, whose replaced rows are exactly those of `event`.

        Args:
            static: `[T, B, ...]`, or `[B, ...]`, which is repeated over the steps.
            event: `[T, B, ...]`.

        Raises `ShapeError` when the shapes (T among them) differ.
        """
        if static.dim() == event.dim() - 1:
            static = static.unsqueeze(0).expand(event.shape[0], *static.shape)
        if static.shape != event.shape:
            raise ShapeError(
                f"static and event must have the same shape [T, B, ...], got {tuple(static.shape)} and "
                f"{tuple(event.shape)}{_which(static, event)}"
            )
        rows = self.replaced(event.shape[1], step, generator).to(event.device)
        return torch.where(rows.view(1, -1, *[1] * (event.dim() - 2)), event, static.to(event.dtype))

    __call__ = mix

    def __repr__(self) -> str:
        return f"SlidingReplacement({self.total_steps}, power={self.power:g}, mode={self.mode!r})"


def _which(static: Tensor, event: Tensor) -> str:
    if static.dim() == event.dim() and static.shape[0] != event.shape[0]:
        return f": T is {static.shape[0]} and {event.shape[0]}"
    return ""
