"""No memory and no prediction: the ablation that shows what they are worth."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ranvier.loop.envs.geometry import BEAMS
from ranvier.loop.predict.persistence import UNKNOWN_RANGE, Belief, Work
from ranvier.loop.sensors.lidar import Scan
from ranvier.loop.sensors.ring import RingEvents


class NoMemory:
    """Beams that are not sensed at this tick read 2.5 m."""

    learned = False

    def reset(self, rows: int, shared: bool = False) -> None:
        """Nothing is kept."""

    def predict(self, position: Tensor, tick: int) -> Belief:
        """Nothing is expected."""
        return _of(Scan.blind(len(position)))

    def update(self, scan: Scan, ring: RingEvents, position: Tensor) -> tuple[Belief, Work]:
        """The scan, and nothing else."""
        return _of(scan), Work.none(len(position))

    def insert(self, points: Tensor, stamp: Tensor) -> None:
        """Echoes of others are ignored."""


def _of(scan: Scan) -> Belief:
    ranges = torch.where(scan.sensed, scan.ranges, UNKNOWN_RANGE)
    return Belief(ranges, scan.sensed, torch.where(scan.sensed, torch.zeros(1, BEAMS).double(), math.inf))
