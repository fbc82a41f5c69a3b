"""What goes into a tick and what comes out of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ranvier.loop.control.gap_follow import Command
from ranvier.loop.envs.geometry import BEAMS
from ranvier.loop.predict.persistence import UNKNOWN_RANGE, Belief
from ranvier.loop.sensing.policies import Decision
from ranvier.loop.sensors.faults import Fault
from ranvier.loop.sensors.lidar import LidarBeams, Scan
from ranvier.loop.sensors.ring import RingDVS, RingEvents
from ranvier.loop.trust.verdict import Verdict


@dataclass
class Sensors:
    """The sensors of an agent, and their faults."""

    lidar: LidarBeams
    ring: RingDVS
    faults: Sequence[Fault] = ()

    @classmethod
    def default(cls, faults: Sequence[Fault] = ()) -> Sensors:
        """LiDAR and ring as published."""
        return cls(LidarBeams(), RingDVS(), tuple(faults))


@dataclass
class Tick:
    """Everything about one tick, for observers (recording, live view, training logs). Rows first."""

    time_us: int
    ready: Tensor
    decision: Decision
    raw: Scan
    scan: Scan
    ring: RingEvents
    predicted: Belief
    belief: Belief
    command: Command
    verdict: Verdict
    truth: Tensor
    position: Tensor
    ring_expected: Tensor


def ignorance(rows: int) -> Belief:
    """A belief that knows nothing."""
    return Belief(
        torch.full((rows, BEAMS), UNKNOWN_RANGE, dtype=torch.float64), torch.zeros(rows, BEAMS, dtype=torch.bool),
        torch.full((rows, BEAMS), math.inf, dtype=torch.float64),
    )  # fmt: skip


def measured(scan: Scan) -> Belief:
    """A belief that knows what was just measured, and nothing else."""
    belief = ignorance(len(scan.ranges))
    return Belief(
        torch.where(scan.sensed, scan.ranges, belief.ranges), scan.sensed,
        torch.where(scan.sensed, 0.0, belief.age_s),
    )  # fmt: skip
