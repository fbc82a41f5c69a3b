"""A deterministic controller: go where there is room and where the goal is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ranvier.errors import ArgumentError
from ranvier.loop.envs.geometry import ANGLES, BEAMS, STEP
from ranvier.loop.predict.persistence import Work
from ranvier.ops.backend import use_kernels


@dataclass
class Command:
    """A velocity `[N, 2]` m/s, its heading `[N]`, the free distance along it `[N]` in metres, and what it cost to find
    (None: nothing that is counted)."""

    velocity: Tensor
    heading: Tensor
    clearance: Tensor
    work: Work | None = None


class GapFollow:
    """For each of 120 headings the free distance between a disc of 0.38 m and the beams' end points; the best one wins.

    Beam j blocks heading h if cos(h − j) > 0, r |sin(h − j)| < clearance and r < max_range; it leaves
    d = r cos − sqrt(clearance² − (r sin)²). The score is min(d, 3)(1.05 + cos(h − goal)) + 0.25 cos(h − previous),
    the speed v_max clip((d − 0.15)/1 m, 0, 1).

    Args:
        max_speed: m/s.
        clearance: half the width of the corridor, metres.
        max_range: ranges from here on do not block.
    """

    def __init__(self, max_speed: float = 1.0, clearance: float = 0.38, max_range: float = 8.0) -> None:
        for name, value in (("max_speed", max_speed), ("clearance", clearance), ("max_range", max_range)):
            if not 0 < value < math.inf:
                raise ArgumentError(f"{name} must be positive, got {value!r}")
        self.max_speed, self.clearance, self.max_range = max_speed, clearance, max_range

    def reset(self, rows: int) -> None:
        """Nothing is kept."""

    def act(self, ranges: Tensor, goal_bearing: Tensor, goal_distance: Tensor, previous: Tensor,
            speed_cap: Tensor | None = None) -> Command:  # fmt: skip
        """The command for range images `[N, 120]`.

        Args:
            goal_bearing, goal_distance: `[N]`, radians and metres.
            previous: heading of the last command `[N]`.
            speed_cap: m/s `[N]`.
        """
        if ranges.dim() != 2 or ranges.shape[1] != BEAMS:
            raise ArgumentError(f"ranges must be [N, {BEAMS}], got {tuple(ranges.shape)}")
        inputs = [t.double().contiguous() for t in (ranges, goal_bearing, goal_distance, previous)]
        if use_kernels("cpu"):
            from ranvier.loop.control.numba_gap_follow import choose

            best, room = torch.zeros(len(ranges)).long(), torch.zeros(len(ranges)).double()
            r, bearing, distance, last = (t.numpy() for t in inputs)
            choose(r, self.max_range, self.clearance, bearing, distance, last, best.numpy(), room.numpy())
        else:
            best, room = self._reference(*inputs)
        heading = best.double() * STEP
        speed = self.max_speed * ((room - 0.15) / 1.0).clamp(0, 1)
        if speed_cap is not None:
            speed = torch.minimum(speed, speed_cap)
        return Command(speed[:, None] * torch.stack([heading.cos(), heading.sin()], -1), heading, room)

    def _reference(self, ranges: Tensor, bearing: Tensor, distance: Tensor, previous: Tensor) -> tuple[Tensor, Tensor]:
        turn = (torch.arange(BEAMS)[None] - torch.arange(BEAMS)[:, None]) % BEAMS  # beam − heading
        c, s = ANGLES.cos()[turn], ANGLES.sin()[turn]
        r = ranges[:, None, :]
        side = r * s.abs()
        blocks = (c > 1e-12) & (side < self.clearance) & (r < self.max_range)
        left = torch.where(blocks, r * c - (self.clearance**2 - side**2).clamp_min(0).sqrt(), math.inf)
        free = left.min(-1).values
        free = torch.where(torch.isinf(free), self.max_range, free)
        free = torch.minimum(free, distance[:, None])
        score = free.clamp(max=3.0) * (1.05 + torch.cos(ANGLES - bearing[:, None]))
        score = score + 0.25 * torch.cos(ANGLES - previous[:, None])
        best = score.argmax(1)
        return best, free.gather(1, best[:, None])[:, 0]
