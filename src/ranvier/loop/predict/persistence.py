"""A memory of echoes that follows the agent's own motion: the predictor every learned one has to beat."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ranvier.errors import ArgumentError
from ranvier.loop.envs.geometry import ANGLES, BEAMS, STEP
from ranvier.loop.sensors.lidar import Scan
from ranvier.loop.sensors.ring import RingEvents
from ranvier.ops.backend import use_kernels

UNKNOWN_RANGE = 2.5
"""What a beam reads that nothing is known of: neither free nor blocked."""


@dataclass
class Belief:
    """What a predictor holds of the surroundings, rows first.

    Attributes:
        ranges: metres `[N, 120]`.
        known: bool `[N, 120]`; the others read "unknown distance".
        age_s: seconds since it was seen `[N, 120]`, infinite where unknown.
        std: standard deviation of the range where the predictor states one, else None.
        rates: firing rates of its first three layers `[N, 3]`, zero where it has none.
    """

    ranges: Tensor
    known: Tensor
    age_s: Tensor
    std: Tensor | None = None
    rates: Tensor | None = None


@dataclass
class Work:
    """What a predictor's tick cost, one number a row: additions, MACs and spikes."""

    acs: Tensor
    macs: Tensor
    spikes: Tensor

    @property
    def parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """The three of them."""
        return self.acs, self.macs, self.spikes

    @classmethod
    def none(cls, rows: int) -> Work:
        """No arithmetic that is counted."""
        zero = torch.zeros(rows, dtype=torch.float64)
        return cls(zero, zero.clone(), zero.clone())


class PersistenceMap:
    """Echoes are kept as points in the world for `lifetime` seconds and re-projected at every tick.

    Each covers three beams, the nearest wins. A beam that looks again removes what it covers. A beam without a point
    keeps the free range it last saw for the same time; then, and before, it reads 2.5 m.

    Args:
        lifetime: seconds.
        tick_us: length of a tick.
    """

    learned = False

    def __init__(self, lifetime: float = 3.0, tick_us: int = 100_000) -> None:
        if not lifetime > 0:
            raise ArgumentError(f"lifetime must be positive, got {lifetime}")
        self.lifetime, self.tick_us = lifetime, tick_us
        self._slots = max(1, round(lifetime * 1e6 / tick_us))

    def reset(self, rows: int, shared: bool = False) -> None:
        """Know nothing; `shared` makes room for echoes of other agents."""
        slots = (self._slots + 1) * (2 if shared else 1)
        self._points = torch.zeros(rows, slots, BEAMS, 2, dtype=torch.float64)
        self._stamp = torch.full((rows, slots, BEAMS), -1, dtype=torch.int64)
        self._beam = torch.full((rows, slots, BEAMS), -1, dtype=torch.int16)
        self._distance = torch.zeros(rows, slots, BEAMS, dtype=torch.float64)
        self._free = torch.zeros(rows, BEAMS, dtype=torch.float64)
        self._free_stamp = torch.full((rows, BEAMS), -(1 << 40), dtype=torch.int64)
        self._now = 0

    def predict(self, position: Tensor, tick: int) -> Belief:
        """The polar image from `position` `[N, 2]` at `tick`, before anything is sensed."""
        self._now, rows = tick, len(position)
        ranges = torch.full((rows, BEAMS), math.inf, dtype=torch.float64)
        ages = torch.full((rows, BEAMS), math.inf, dtype=torch.float64)
        project_points(
            self._points.flatten(1, 2), self._stamp.flatten(1, 2), position, tick, self._slots, ranges, ages,
            self._beam.flatten(1, 2), self._distance.flatten(1, 2),
        )  # fmt: skip
        self._seen = ranges, ages
        return self._image(ranges, ages)

    def _image(self, ranges: Tensor, ages: Tensor) -> Belief:
        free_age = self._now - self._free_stamp
        free = free_age <= self._slots
        point = torch.isfinite(ranges)
        value = torch.where(point, ranges, torch.where(free, self._free, UNKNOWN_RANGE))
        age = torch.where(point, ages, torch.where(free, free_age.double(), math.inf))
        return Belief(value, point | free, age * (self.tick_us * 1e-6))

    def update(self, scan: Scan, ring: RingEvents, position: Tensor) -> tuple[Belief, Work]:
        """Take in a scan made at `position` since `predict`; the image with the sensed beams as measured."""
        del ring
        ranges, ages = self._seen
        forget_points(
            self._stamp.flatten(1, 2), self._beam.flatten(1, 2), self._distance.flatten(1, 2), scan.sensed, scan.gate
        )
        slot = self._now % (self._slots + 1)
        heading = torch.stack([ANGLES.cos(), ANGLES.sin()], -1)
        self._points[:, slot] = position[:, None] + scan.ranges[..., None] * heading
        self._stamp[:, slot] = torch.where(scan.hit, self._now, -1)
        clear = scan.sensed & ~scan.hit
        self._free = torch.where(clear, scan.ranges, self._free)
        self._free_stamp = torch.where(clear, self._now, torch.where(scan.hit, -(1 << 40), self._free_stamp))
        belief = self._image(ranges, ages)
        belief.ranges = torch.where(scan.sensed, scan.ranges, belief.ranges)
        belief.known = belief.known | scan.sensed
        belief.age_s = torch.where(scan.sensed, 0.0, belief.age_s)
        return belief, Work.none(len(position))

    def insert(self, points: Tensor, stamp: Tensor) -> None:
        """Add points seen by others: world coordinates `[N, K, 2]`, tick of the echo `[N, K]` (negative: none).

        At most 120 an agent and tick are kept. Needs `reset(rows, shared=True)`.
        """
        if self._points.shape[1] == self._slots + 1:
            raise ArgumentError("this memory has no room for others' echoes; call reset(rows, shared=True)")
        slot = self._slots + 1 + self._now % (self._slots + 1)
        room = min(points.shape[1], BEAMS)
        self._stamp[:, slot] = -1
        self._points[:, slot, :room] = points[:, :room]
        self._stamp[:, slot, :room] = stamp[:, :room]
        self._beam[:, slot] = -1

    def forget(self, rows: Tensor) -> None:
        """Start the given rows (bool `[N]`) from nothing, after a failure."""
        self._stamp[rows] = -1
        self._free_stamp[rows] = -(1 << 40)

    def foresee(self, position: Tensor, ahead_us: Tensor) -> Belief:
        """The image as it will look from `position` `[N, 2]`, where the agent is when its command takes effect."""
        del ahead_us
        rows = len(position)
        ranges = torch.full((rows, BEAMS), math.inf, dtype=torch.float64)
        ages = torch.full((rows, BEAMS), math.inf, dtype=torch.float64)
        project_points(
            self._points.flatten(1, 2), self._stamp.flatten(1, 2), position, self._now, self._slots, ranges, ages,
            torch.empty_like(self._beam.flatten(1, 2)), torch.empty_like(self._distance.flatten(1, 2)),
        )  # fmt: skip
        return self._image(ranges, ages)

    def state_dict(self) -> dict[str, Any]:
        """The memory as tensors."""
        names = ("_points", "_stamp", "_free", "_free_stamp")
        return {**{name: getattr(self, name).clone() for name in names}, "_now": self._now}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        self.reset(len(state["_free"]))
        for name, value in state.items():
            setattr(self, name, value.clone() if isinstance(value, Tensor) else value)


def project_points(
    points: Tensor, stamp: Tensor, position: Tensor, now: int, lifetime: int, ranges: Tensor, ages: Tensor,
    beam: Tensor, distance: Tensor,
) -> None:  # fmt: skip
    """Fill `ranges`, `ages`, `beam` and `distance` in place; points older than `lifetime` ticks are removed."""
    if use_kernels("cpu"):
        from ranvier.loop.predict.numba_persistence import project

        project(
            points.numpy(), stamp.numpy(), position[:, 0].numpy(), position[:, 1].numpy(), now, lifetime,
            ranges.numpy(), ages.numpy(), beam.numpy(), distance.numpy(),
        )  # fmt: skip
        return
    stamp[(stamp >= 0) & (now - stamp > lifetime)] = -1
    there = stamp >= 0
    offset = points - position[:, None]
    r = offset.square().sum(-1).sqrt()
    centre = torch.floor(torch.atan2(offset[..., 1], offset[..., 0]) / STEP + 0.5).long() % BEAMS
    beam.copy_(torch.where(there, centre, -1))
    distance.copy_(r)
    near = torch.where(there, r, math.inf)
    for side in (-1, 0, 1):
        ranges.scatter_reduce_(1, (centre + side) % BEAMS, near, "amin")
    age = (now - stamp).double()
    for side in (-1, 0, 1):
        index = (centre + side) % BEAMS
        winner = there & (r == ranges.gather(1, index))
        ages.scatter_reduce_(1, index, torch.where(winner, age, math.inf), "amin")


def forget_points(stamp: Tensor, beam: Tensor, distance: Tensor, sensed: Tensor, reach: Tensor) -> None:
    """Mark the points (in place) that lie in sensed beams, not beyond the reach."""
    if use_kernels("cpu"):
        from ranvier.loop.predict.numba_persistence import forget

        forget(stamp.numpy(), beam.numpy(), distance.numpy(), sensed.numpy(), reach.numpy())
        return
    index = beam.long().clamp_min(0)
    looked = sensed.gather(1, index) & (beam >= 0) & (distance <= reach[:, None])
    stamp[looked & (stamp >= 0)] = -1
