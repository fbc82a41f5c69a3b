"""Faults of sensors: what they do to a scan or to the events, from when on, for how long, how badly."""

from __future__ import annotations

import inspect
import math
from collections import deque
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ranvier.errors import ArgumentError
from ranvier.loop.randomness import Randomness
from ranvier.loop.sensors.lidar import Scan
from ranvier.loop.sensors.ring import RingEvents
from ranvier.registry import Registry, check_keywords


@dataclass
class Fault:
    """A fault that lasts from `start` for `duration` seconds.

    Args:
        severity: what it means is the fault's own; 0 is no fault.
        start, duration: seconds of simulated time.
        agents: which agents of a world suffer; None for all.
    """

    severity: float = 1.0
    start: float = 0.0
    duration: float = math.inf
    agents: tuple[int, ...] | None = None
    name: ClassVar[str] = ""

    def __post_init__(self) -> None:
        if not 0 <= self.severity <= 10:
            raise ArgumentError(f"severity must be in [0, 10], got {self.severity}")
        if self.start < 0 or not self.duration >= 0:
            raise ArgumentError(f"start and duration must be >= 0, got {self.start} and {self.duration}")
        self.reset()

    def reset(self) -> None:
        """Forget the past."""

    def active(self, time_us: int) -> bool:
        """Whether it is there at this time."""
        return self.start * 1e6 <= time_us < (self.start + self.duration) * 1e6

    def rows(self, rows: int, agents: int) -> Tensor:
        """Which rows suffer, bool `[rows]`."""
        if self.agents is None:
            return torch.ones(rows, dtype=torch.bool)
        chosen = torch.zeros(agents, dtype=torch.bool)
        chosen[[agent for agent in self.agents if agent < agents]] = True
        return chosen.repeat(rows // agents)

    def apply(self, scan: Scan, ring: RingEvents, time_us: int, random: Randomness) -> tuple[Scan, RingEvents]:
        """What arrives of this tick's `scan` and `ring` events."""
        before = scan.clone(), RingEvents(ring.on.clone(), ring.off.clone())
        self.observe(before[0], before[1], time_us)
        if not self.active(time_us) or not self.severity:
            return scan, ring
        new_scan, new_ring = self.corrupt(scan.clone(), RingEvents(ring.on.clone(), ring.off.clone()), random)
        which = self.rows(len(scan.ranges), random.agents)[:, None]
        return (
            Scan(
                torch.where(which, new_scan.ranges, before[0].ranges), torch.where(which, new_scan.hit, before[0].hit),
                torch.where(which, new_scan.sensed, before[0].sensed), before[0].gate,
            ),
            RingEvents(torch.where(which, new_ring.on, ring.on), torch.where(which, new_ring.off, ring.off)),
        )  # fmt: skip

    def observe(self, scan: Scan, ring: RingEvents, time_us: int) -> None:
        """See the true data of every tick (for faults that replay the past)."""

    def corrupt(self, scan: Scan, ring: RingEvents, random: Randomness) -> tuple[Scan, RingEvents]:
        """The data as the fault leaves them."""
        return scan, ring


FAULTS: Registry[type[Fault]] = Registry("fault")


def build(name: str, severity: float = 1.0, **arguments: Any) -> Fault:
    """A fault by name; unknown names and arguments are errors that name the nearest known one."""
    check_keywords(FAULTS[name], arguments, f"fault {name!r}")
    return FAULTS[name](severity, **arguments)


def _inject(scan: Scan, chosen: Tensor, value: Tensor) -> Scan:
    scan.ranges = torch.where(chosen, value, scan.ranges)
    scan.hit = scan.hit | chosen
    return scan


@FAULTS.register("ghosts")
@dataclass
class Ghosts(Fault):
    """Spoofed returns (crosstalk): a share `severity` of the fired beams read U[low, high] metres."""

    low: float = 0.3
    high: float = 8.0

    def corrupt(self, scan: Scan, ring: RingEvents, random: Randomness) -> tuple[Scan, RingEvents]:
        draw = random.uniform(f"ghost:{self.low}", 2, scan.ranges.shape[1])
        chosen = scan.sensed & (draw[:, 0] < self.severity)
        return _inject(scan, chosen, self.low + (self.high - self.low) * draw[:, 1]), ring


@FAULTS.register("near_ghosts")
@dataclass
class NearGhosts(Ghosts):
    """Spoofed returns close by (cross-sensor interference): U[0.3, 1.5] m."""

    high: float = 1.5


@FAULTS.register("missing")
@dataclass
class Missing(Fault):
    """Dropout: a share `severity` of the fired beams give no echo and read free to the gate."""

    def corrupt(self, scan: Scan, ring: RingEvents, random: Randomness) -> tuple[Scan, RingEvents]:
        lost = scan.sensed & (random.uniform("missing", scan.ranges.shape[1]) < self.severity)
        scan.hit = scan.hit & ~lost
        scan.ranges = torch.where(lost, scan.gate[:, None], scan.ranges)
        return scan, ring


@FAULTS.register("dead")
@dataclass
class Dead(Missing):
    """No echo at all: everything reads free."""


@FAULTS.register("frozen")
@dataclass
class Frozen(Fault):
    """The scanner repeats, for the beams asked for, what it saw when the fault began."""

    def reset(self) -> None:
        self._kept: Scan | None = None

    def observe(self, scan: Scan, ring: RingEvents, time_us: int) -> None:
        if self.active(time_us) and self._kept is not None:
            return
        if self._kept is None or len(self._kept.ranges) != len(scan.ranges):
            self._kept = scan.clone()
            return
        for name in ("ranges", "hit", "sensed"):
            new, old = getattr(scan, name), getattr(self._kept, name)
            setattr(self._kept, name, torch.where(scan.sensed, new, old))

    def corrupt(self, scan: Scan, ring: RingEvents, random: Randomness) -> tuple[Scan, RingEvents]:
        assert self._kept is not None
        stale = scan.sensed & self._kept.sensed
        scan.ranges = torch.where(stale, self._kept.ranges, scan.ranges)
        scan.hit = torch.where(stale, self._kept.hit, scan.hit)
        return scan, ring


@FAULTS.register("delay")
@dataclass
class Delay(Fault):
    """Scans arrive `severity` x 10 ticks late: each beam shows what was there then, where it was fired."""

    def reset(self) -> None:
        self._past: deque[Scan] = deque(maxlen=101)

    def observe(self, scan: Scan, ring: RingEvents, time_us: int) -> None:
        self._past.append(scan.clone())

    def corrupt(self, scan: Scan, ring: RingEvents, random: Randomness) -> tuple[Scan, RingEvents]:
        back = min(round(self.severity * 10), len(self._past) - 1)
        return self._past[-1 - back].clone(), ring


@FAULTS.register("smear")
@dataclass
class Smear(Fault):
    """Motion smear: ranges are the mean of the last three scans that fired the beam."""

    def reset(self) -> None:
        self._past: deque[Scan] = deque(maxlen=3)

    def observe(self, scan: Scan, ring: RingEvents, time_us: int) -> None:
        self._past.append(scan.clone())

    def corrupt(self, scan: Scan, ring: RingEvents, random: Randomness) -> tuple[Scan, RingEvents]:
        total = sum((s.ranges * s.sensed for s in self._past), torch.zeros_like(scan.ranges))
        count = sum((s.sensed.double() for s in self._past), torch.zeros_like(scan.ranges))
        mean = total / count.clamp_min(1)
        share = min(self.severity, 1.0)
        scan.ranges = torch.where(scan.sensed, (1 - share) * scan.ranges + share * mean, scan.ranges)
        return scan, ring


@FAULTS.register("fog")
@dataclass
class Fog(Fault):
    """Fog: sight shrinks to (1 − severity) of the range, and a share severity/10 of the beams echo from nearby."""

    def corrupt(self, scan: Scan, ring: RingEvents, random: Randomness) -> tuple[Scan, RingEvents]:
        sight = 8.0 * max(1.0 - self.severity, 0.05)
        blind = scan.sensed & scan.hit & (scan.ranges > sight)
        scan.hit = scan.hit & ~blind
        scan.ranges = torch.where(blind, scan.gate[:, None], scan.ranges)
        draw = random.uniform("fog", 2, scan.ranges.shape[1])
        return _inject(scan, scan.sensed & (draw[:, 0] < self.severity / 10), 0.3 + 1.2 * draw[:, 1]), ring


@FAULTS.register("bias")
@dataclass
class Bias(Fault):
    """Every echo reads `severity` metres too far (a miscalibrated clock)."""

    def corrupt(self, scan: Scan, ring: RingEvents, random: Randomness) -> tuple[Scan, RingEvents]:
        scan.ranges = torch.where(scan.hit, scan.ranges + self.severity, scan.ranges)
        return scan, ring


@FAULTS.register("gain")
@dataclass
class Gain(Fault):
    """Every echo reads (1 + severity) times its range."""

    def corrupt(self, scan: Scan, ring: RingEvents, random: Randomness) -> tuple[Scan, RingEvents]:
        scan.ranges = torch.where(scan.hit, scan.ranges * (1 + self.severity), scan.ranges)
        return scan, ring


@FAULTS.register("hot_pixels")
@dataclass
class HotPixels(Fault):
    """A share `severity` of the ring's pixels fires three ON events every tick."""

    def reset(self) -> None:
        self._which: Tensor | None = None

    def corrupt(self, scan: Scan, ring: RingEvents, random: Randomness) -> tuple[Scan, RingEvents]:
        if self._which is None or self._which.shape != ring.on.shape:
            self._which = random.uniform("hot", ring.on.shape[1]) < self.severity
        ring.on = torch.where(self._which, ring.on + 3, ring.on)
        return scan, ring


@FAULTS.register("event_burst")
@dataclass
class EventBurst(Fault):
    """Every pixel of the ring sends 5 x `severity` events of either polarity a tick."""

    def corrupt(self, scan: Scan, ring: RingEvents, random: Randomness) -> tuple[Scan, RingEvents]:
        draw = random.uniform("burst", 2, ring.on.shape[1])
        extra = torch.floor(10 * self.severity * draw)
        return scan, RingEvents(ring.on + extra[:, 0], ring.off + extra[:, 1])


@FAULTS.register("stuck_polarity")
@dataclass
class StuckPolarity(Fault):
    """OFF events of the ring arrive as ON."""

    def corrupt(self, scan: Scan, ring: RingEvents, random: Randomness) -> tuple[Scan, RingEvents]:
        return scan, RingEvents(ring.on + ring.off, torch.zeros_like(ring.off))


@FAULTS.register("stuck_beams")
@dataclass
class StuckBeams(Fault):
    """Stuck pixels of the LiDAR: a share `severity` of the beam directions always reads 1 m."""

    def reset(self) -> None:
        self._which: Tensor | None = None

    def corrupt(self, scan: Scan, ring: RingEvents, random: Randomness) -> tuple[Scan, RingEvents]:
        if self._which is None or self._which.shape != scan.hit.shape:
            self._which = random.uniform("stuck", scan.hit.shape[1]) < self.severity
        return _inject(scan, scan.sensed & self._which, torch.ones_like(scan.ranges)), ring


for _key, _cls in FAULTS.items():
    _cls.name = _key


def describe() -> list[tuple[str, str]]:
    """Names of the faults and what they do."""
    return [(name, (inspect.getdoc(cls) or "").split("\n")[0]) for name, cls in FAULTS.items()]


__all__ = [
    "FAULTS", "Bias", "Dead", "Delay", "EventBurst", "Fault", "Fog", "Frozen", "Gain", "Ghosts", "HotPixels",
    "Missing", "NearGhosts", "Smear", "StuckBeams", "StuckPolarity", "build", "describe",
]  # fmt: skip
