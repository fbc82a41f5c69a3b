"""A ring of 120 event pixels on the horizon: cheap motion cues, and a rough range when the LiDAR fails."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ranvier.errors import ArgumentError
from ranvier.loop.envs.geometry import BEAMS

_DARK, _LIGHT, _FALL = 40.0, 160.0, 3.0


def brightness(distance: Tensor, albedo: Tensor) -> Tensor:
    """Intensity of a surface seen from `distance` metres: (40 + 160 exp(−r / 3 m)) x albedo."""
    return (_DARK + _LIGHT * torch.exp(-distance / _FALL)) * albedo


@dataclass
class RingEvents:
    """ON and OFF counts of one tick, float64 `[N, 120]`."""

    on: Tensor
    off: Tensor

    @classmethod
    def none(cls, rows: int) -> RingEvents:
        """A tick without events."""
        return cls(torch.zeros(rows, BEAMS).double(), torch.zeros(rows, BEAMS).double())

    @property
    def total(self) -> Tensor:
        """Events of each row, `[N]`."""
        return (self.on + self.off).sum(1)


class RingDVS:
    """One event pixel per beam direction, always on; counts per tick.

    Integrating its events since the start gives the log-intensity to within a threshold, and from it, with the mean
    albedo, a rough range: the second modality of the fallback. The level is aligned by the first frame, as a camera
    that also gives one grey frame at the start would.

    Args:
        threshold: contrast of an event, in log units (chosen).
        sigma: spread of the thresholds over pixels; drawn once per world.
    """

    def __init__(self, threshold: float = 0.1, sigma: float = 0.005) -> None:
        if not threshold > 0 or not sigma >= 0:
            raise ArgumentError(f"threshold must be > 0 and sigma >= 0, got {threshold} and {sigma}")
        self.threshold, self.sigma = threshold, sigma

    def reset(self, distance: Tensor, albedo: Tensor, noise: Tensor | None = None) -> None:
        """Start at this scene; `noise`: standard normal `[N, 120]` for the thresholds."""
        self._level = torch.log(brightness(distance, albedo))
        self.integrated = self._level.clone()
        draw = 0.0 if noise is None else self.sigma * noise
        self._theta = (torch.full_like(self._level, self.threshold) + draw).clamp_min(0.01)

    def step(self, distance: Tensor, albedo: Tensor) -> RingEvents:
        """Events since the previous step."""
        change = torch.log(brightness(distance, albedo)) - self._level
        on = torch.floor(change.clamp_min(0) / self._theta)
        off = torch.floor((-change).clamp_min(0) / self._theta)
        self._level = self._level + (on - off) * self._theta
        return RingEvents(on, off)

    def follow(self, events: RingEvents) -> Tensor:
        """Integrate the events received and give the range they stand for, `[N, 120]`, 0.1 to 20 m."""
        self.integrated = self.integrated + (events.on - events.off) * self.threshold
        share = (torch.exp(self.integrated) / 0.9 - _DARK) / _LIGHT
        return (-_FALL * torch.log(share.clamp(math.exp(-20 / _FALL), 1.0))).clamp(0.1, 20.0)

    def contrast(self, ranges: Tensor) -> Tensor:
        """Log-intensity that surfaces at `ranges` should have, minus that integrated from the events `[N, 120]`."""
        return torch.log(brightness(ranges.clamp_min(0.0), torch.full_like(ranges, 0.9))) - self.integrated

    def expected_rate(self, distance: Tensor, speed: Tensor) -> Tensor:
        """Events a tick that moving at `speed` past surfaces at `distance` should give, roughly, `[N]`."""
        slope = (_LIGHT / _FALL) * torch.exp(-distance / _FALL) / (_DARK + _LIGHT * torch.exp(-distance / _FALL))
        edges = (distance - distance.roll(1, 1)).abs().clamp(max=3.0)
        return ((slope * (0.1 * speed[:, None] * 0.64 + 0.02 * edges)) / self.threshold).sum(1)
