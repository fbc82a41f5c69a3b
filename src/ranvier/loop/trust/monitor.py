"""The trust monitor: scores, alarms, and what is done with sensors that cannot be trusted."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ranvier.loop.envs.geometry import ANGLES, BEAMS, wrap
from ranvier.loop.sensors.lidar import Scan
from ranvier.loop.trust.cusum import Cusum
from ranvier.loop.trust.features import Features
from ranvier.loop.trust.fsm import FallbackFSM
from ranvier.loop.trust.scores import ResidualScore
from ranvier.loop.trust.verdict import NOMINAL, SAFE_STOP, Observation, Verdict

Score = Callable[[Tensor], Tensor]


class Watch:
    """A monitor that trusts everything and keeps what it saw: features `[T, N, 24]`, conflicts and offsets `[T, N]`."""

    def __init__(self) -> None:
        self.features: list[Tensor] = []
        self.conflicts: list[Tensor] = []
        self.offsets: list[Tensor] = []
        self.ready: list[Tensor] = []
        self._make = Features()

    def reset(self, rows: int) -> None:
        """Begin a batch; what was kept stays."""
        self._make.reset(rows)

    def assess(self, seen: Observation) -> Verdict:
        """Keep, and trust."""
        self.features.append(self._make(seen))
        self.conflicts.append(conflict(seen))
        self.offsets.append(offset(seen))
        self.ready.append(seen.ready & seen.scan.sensed.any(1))
        return Verdict.trusting(seen.scan)


def conflict(seen: Observation) -> Tensor:
    """Share of the fired beams where LiDAR and ring cannot both be right `[N]`."""
    wrong = _contradicts(seen.scan, seen.ring_range)
    return wrong.sum(1).double() / seen.scan.sensed.sum(1).clamp_min(1)


def offset(seen: Observation) -> Tensor:
    """How far echoes and ring differ all in one direction, in log-intensity `[N]`: a bias that no single beam shows.

    The median over beams; a few odd echoes do not move it.
    """
    near = seen.scan.hit & (torch.minimum(seen.scan.ranges, seen.ring_range) < 5)
    ordered = torch.where(near, seen.contrast, math.inf).sort(1).values
    middle = ordered.gather(1, (near.sum(1) // 2)[:, None].clamp(max=BEAMS - 1))[:, 0]
    return torch.where(near.sum(1) >= 4, middle, 0.0).nan_to_num(posinf=0.0).abs()


def _contradicts(scan: Scan, ring_range: Tensor) -> Tensor:
    """The ring is good to some 0.4 m and a third of the range: an echo far from it, or none in its sight, is odd."""
    slack = 0.35 * torch.minimum(scan.ranges, ring_range) + 0.4
    odd_echo = scan.hit & ((scan.ranges - ring_range).abs() > slack) & (torch.minimum(scan.ranges, ring_range) < 5)
    odd_gap = scan.sensed & ~scan.hit & (ring_range * 1.35 + 0.4 < scan.gate[:, None].clamp(max=5.0))
    return odd_echo | odd_gap


@dataclass
class Calibration:
    """What clean runs look like: alarms of the score, of conflicts and offsets between sensors, of the ring's rate."""

    score: Cusum
    conflict: Cusum
    offset: Cusum
    rate: Cusum

    def alarms(self) -> tuple[Cusum, ...]:
        """All of them."""
        return self.score, self.conflict, self.offset, self.rate

    @classmethod
    def of(cls, watch: Watch, score: Score, per_second: float = 2.5e-4) -> Calibration:
        """From a `Watch` over clean runs (validation worlds)."""
        features = torch.stack(watch.features)
        ready = torch.stack(watch.ready)
        flat = score(features.flatten(0, 1)).view(ready.shape)

        def alarm(value: Tensor) -> Cusum:
            return Cusum.tuned(torch.where(ready, value, math.nan), per_second)

        return cls(
            alarm(flat), alarm(torch.stack(watch.conflicts)), alarm(torch.stack(watch.offsets)),
            alarm(features[..., 20].abs()),
        )  # fmt: skip


class TrustMonitor:
    """Watches residuals and the agreement of LiDAR and ring, and degrades gracefully.

    A suspect agent scans everything. From then on, and while degraded, echoes and gaps that the other modality or the
    memory contradicts are not used; what is missing is filled in from the ring; speed is capped. Where the ring is the
    one that is broken, near echoes must be supported by their neighbours and by the scan before.

    Args:
        calibration: from clean runs; see `ranvier.loop.trust.calibrate`.
        score: features `[N, 24]` to `[N]`: `ResidualScore`, `LikelihoodRegret`, `Mahalanobis`, ...
        speed_cap: m/s while suspect or degraded.
        covered_cap: m/s where trusted beams still cover at least 70 % of the way ahead.
        margin: metres taken off ranges that the ring alone knows.
    """

    def __init__(self, calibration: Calibration, score: Score | None = None, speed_cap: float = 0.4,
                 covered_cap: float = 0.8, margin: float = 0.15, fsm: FallbackFSM | None = None) -> None:  # fmt: skip
        self.calibration, self.score = calibration, score or ResidualScore()
        self.speed_cap, self.covered_cap, self.margin = speed_cap, covered_cap, margin
        self.fsm = fsm or FallbackFSM()
        self._features = Features()
        self.trusted_features: list[Tensor] = []
        self.keep_features = False

    def reset(self, rows: int) -> None:
        """Begin a batch."""
        for alarm in self.calibration.alarms():
            alarm.reset(rows)
        self.fsm.reset(rows)
        self._features.reset(rows)
        self._previous = Scan.blind(rows)
        self._ring_bad = torch.zeros(rows, dtype=torch.bool)

    def assess(self, seen: Observation) -> Verdict:
        """Judge a tick and say what may be used of it."""
        features = self._features(seen)
        looked = seen.ready & seen.scan.sensed.any(1)
        by_score = self.calibration.score.step(self.score(features), looked)
        by_conflict = self.calibration.conflict.step(conflict(seen), looked)
        # a ring that misfires has lost its level for the rest of the episode
        self._ring_bad |= self.calibration.rate.step(features[:, 20].abs(), seen.ready)
        by_offset = self.calibration.offset.step(offset(seen), looked) & ~self._ring_bad
        alarm = by_score | (by_conflict & ~self._ring_bad) | by_offset
        mode = self.fsm.step(alarm, self._uncertain(seen))
        if self.keep_features:
            self.trusted_features.append(features[looked & (mode == NOMINAL)])
        wary = mode != NOMINAL
        scan = self._filtered(seen, wary, by_offset)
        ring = (seen.ring_range - self.margin).clamp_min(0.05)
        usable = wary[:, None] & ~self._ring_bad[:, None] & ~scan.sensed
        ahead = wrap(ANGLES - seen.heading[:, None]).abs() < 0.8
        covered = (scan.sensed & ahead).sum(1) >= 0.7 * ahead.sum(1)
        cap = torch.where(wary, torch.where(covered, self.covered_cap, self.speed_cap), 100.0).double()
        cap = torch.where(mode == SAFE_STOP, 0.0, cap)
        conflict_level = self.calibration.conflict.value / self.calibration.conflict.threshold
        offset_level = self.calibration.offset.value / self.calibration.offset.threshold
        level = torch.maximum(
            self.calibration.score.value / self.calibration.score.threshold,
            torch.where(self._ring_bad, 0.0, torch.maximum(conflict_level, offset_level)),
        )
        self._previous = seen.scan.clone()
        return Verdict(scan, torch.where(usable, ring, 1e9), level.clamp(0, 1), cap, wary, mode)

    def _uncertain(self, seen: Observation) -> Tensor:
        ahead = wrap(ANGLES - seen.heading[:, None]).abs() < 0.6
        old = ~seen.belief.known | (seen.belief.age_s > 1.0)
        share = (old & ahead).sum(1) / ahead.sum(1)
        return (share > 0.5) & self._ring_bad

    def _filtered(self, seen: Observation, wary: Tensor, biased: Tensor) -> Scan:
        scan = seen.scan
        against = _contradicts(scan, seen.ring_range)
        fresh = seen.belief.known & (seen.belief.age_s < 0.35)
        agrees = fresh & ((scan.ranges - torch.minimum(seen.belief.ranges, scan.gate[:, None])).abs() < 0.4)
        near = scan.hit & (scan.ranges < 2.0)
        beside = (_alike(scan, 1) | _alike(scan, -1)) & _before(scan, self._previous)
        alone = (near & ~agrees & ~beside) | (scan.sensed & ~scan.hit & fresh & (seen.belief.ranges < 2.0))
        reject = torch.where(self._ring_bad[:, None], alone, against | (near & ~agrees & ~_alike(scan, 1)
                                                                        & ~_alike(scan, -1)))  # fmt: skip
        keep = ~((reject | biased[:, None]) & wary[:, None])
        return Scan(torch.where(keep, scan.ranges, 0.0), scan.hit & keep, scan.sensed & keep, scan.gate)


def _alike(scan: Scan, shift: int) -> Tensor:
    """The neighbouring beam has an echo at nearly the same range."""
    return scan.hit.roll(shift, 1) & ((scan.ranges - scan.ranges.roll(shift, 1)).abs() < 0.4)


def _before(scan: Scan, previous: Scan) -> Tensor:
    """An echo at nearly the same range was there in the scan before, in this beam or a neighbour."""
    found = torch.zeros_like(scan.hit)
    for shift in (-1, 0, 1):
        found |= previous.hit.roll(shift, 1) & ((scan.ranges - previous.ranges.roll(shift, 1)).abs() < 0.3)
    return found


assert len(ANGLES) == BEAMS
