"""A LiDAR whose beams are fired on demand: which sectors, and how far."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ranvier.errors import ArgumentError, ShapeError
from ranvier.loop.envs.geometry import BEAMS, PER_SECTOR, SECTORS


@dataclass
class Scan:
    """One look of the LiDAR, rows first.

    Attributes:
        ranges: float64 `[N, 120]` metres. A sensed beam without a hit reads the gate; one that was not fired reads 0.
        hit: bool `[N, 120]`, an echo came back.
        sensed: bool `[N, 120]`, the beam was fired.
        gate: float64 `[N]`, the range the beams were fired to.
    """

    ranges: Tensor
    hit: Tensor
    sensed: Tensor
    gate: Tensor

    def clone(self) -> Scan:
        """An independent copy."""
        return Scan(self.ranges.clone(), self.hit.clone(), self.sensed.clone(), self.gate.clone())

    @classmethod
    def blind(cls, rows: int) -> Scan:
        """A scan in which nothing was fired."""
        none = torch.zeros(rows, BEAMS, dtype=torch.bool)
        return cls(torch.zeros(rows, BEAMS, dtype=torch.float64), none, none.clone(), torch.zeros(rows).double())


class LidarBeams:
    """120 beams in 30 sectors of 4, Gaussian range noise, range gate.

    Args:
        max_range: metres.
        noise: standard deviation of a range, metres.
    """

    def __init__(self, max_range: float = 8.0, noise: float = 0.02) -> None:
        if not max_range > 0 or not 0 <= noise < float("inf"):
            raise ArgumentError(f"max_range must be > 0 and noise >= 0, got {max_range} and {noise}")
        self.max_range, self.noise = float(max_range), float(noise)

    def sense(self, distance: Tensor, sectors: Tensor, gate: Tensor, noise: Tensor | None = None) -> Scan:
        """Fire the beams of `sectors`.

        Args:
            distance: true distances `[N, 120]`.
            sectors: bool `[N, 30]`.
            gate: `[N]`, metres; clipped to (0, max_range].
            noise: standard normal numbers `[N, 120]`; None for a perfect measurement.
        """
        if distance.dim() != 2 or distance.shape[1] != BEAMS or sectors.shape != (len(distance), SECTORS):
            raise ShapeError(
                f"expected distance [N, {BEAMS}] and sectors [N, {SECTORS}], got {tuple(distance.shape)} and "
                f"{tuple(sectors.shape)}"
            )
        reach = gate.clamp(1e-3, self.max_range)
        sensed = sectors.repeat_interleave(PER_SECTOR, 1)
        measured = distance if noise is None else (distance + self.noise * noise).clamp_min(0.0)
        hit = sensed & (distance < reach[:, None])
        ranges = torch.where(hit, torch.minimum(measured, reach[:, None]), torch.where(sensed, reach[:, None], 0.0))
        return Scan(ranges, hit, sensed, reach)
