"""What a trust monitor sees of a tick, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ranvier.loop.predict.persistence import Belief
from ranvier.loop.sensors.lidar import Scan
from ranvier.loop.sensors.ring import RingEvents

NOMINAL, SUSPECT, DEGRADED, SAFE_STOP = 0, 1, 2, 3
MODES = ("nominal", "suspect", "degraded", "safe_stop")


@dataclass
class Observation:
    """One tick, rows first.

    Attributes:
        scan, ring: what arrived from the sensors.
        belief: what was predicted before the scan.
        ring_range: range image from the ring alone `[N, 120]`.
        contrast: log-intensity that the measured ranges stand for, minus the ring's `[N, 120]`.
        ring_expected: events that the motion should have caused `[N]`.
        speed, heading: `[N]`.
        position: `[N, 2]`.
        tick: number of the tick.
        ready: which rows sensed at this tick.
    """

    scan: Scan
    ring: RingEvents
    belief: Belief
    ring_range: Tensor
    contrast: Tensor
    ring_expected: Tensor
    speed: Tensor
    heading: Tensor
    position: Tensor
    tick: int
    ready: Tensor


@dataclass
class Verdict:
    """What to do, rows first.

    Attributes:
        scan: the part of the scan that may be used; untrusted beams are as if they had not been fired.
        ranges: what the controller should assume where trusted sensing is missing `[N, 120]`, 1e9: no opinion.
        distrust: 0 to 1 `[N]`.
        speed_cap: m/s `[N]`.
        full_scan: sense everything at the next tick, bool `[N]`.
        mode: state of the fallback, int64 `[N]`.
    """

    scan: Scan
    ranges: Tensor
    distrust: Tensor
    speed_cap: Tensor
    full_scan: Tensor
    mode: Tensor

    @classmethod
    def trusting(cls, scan: Scan, max_speed: float = 100.0) -> Verdict:
        """Everything may be used."""
        rows = len(scan.ranges)
        return cls(
            scan, torch.full_like(scan.ranges, 1e9), torch.zeros(rows).double(),
            torch.full((rows,), max_speed, dtype=torch.float64), torch.zeros(rows, dtype=torch.bool),
            torch.zeros(rows, dtype=torch.int64),
        )  # fmt: skip


class Monitor(Protocol):
    """Judges every tick of every row."""

    def reset(self, rows: int) -> None: ...

    def assess(self, seen: Observation) -> Verdict: ...
