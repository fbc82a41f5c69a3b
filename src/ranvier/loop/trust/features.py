"""The 24 numbers a tick that the trust monitor looks at."""

from __future__ import annotations

import torch
from torch import Tensor

from ranvier.loop.envs.geometry import BEAMS
from ranvier.loop.trust.scores import RESIDUAL_CLIP
from ranvier.loop.trust.verdict import Observation

NAMES = (
    *(f"{what} residual, quadrant {q}" for q in range(4) for what in ("mean", "max", "median", "upper quartile")),
    "hit fraction", "near-hit fraction", "flicker rate", "event rate", "log ratio to expected events",
    "rate of layer 1", "rate of layer 2", "rate of layer 3",
)  # fmt: skip
_QUADRANT = BEAMS // 4


class Features:
    """Turns observations into features `[N, 24]`; remembers the last echo of each beam for the flicker rate."""

    def reset(self, rows: int) -> None:
        """Begin an episode."""
        self._last = torch.zeros(rows, BEAMS, dtype=torch.float64)
        self._when = torch.full((rows, BEAMS), -1000, dtype=torch.int64)

    def __call__(self, seen: Observation) -> Tensor:
        """Features of one tick; zero residual where nothing can be compared."""
        scan, belief = seen.scan, seen.belief
        residual = residuals(seen)
        comparable = comparable_beams(seen)
        parts: list[Tensor] = []
        for q in range(4):
            part = slice(q * _QUADRANT, (q + 1) * _QUADRANT)
            value, valid = residual[:, part], comparable[:, part]
            count = valid.sum(1).clamp_min(1)
            ordered = torch.where(valid, value, 2 * RESIDUAL_CLIP).sort(1).values
            some = valid.any(1)
            for what in (
                torch.where(valid, value, 0).sum(1) / count, torch.where(valid, value, 0).max(1).values,
                ordered.gather(1, (count // 2).clamp(max=_QUADRANT - 1)[:, None])[:, 0].clamp(max=RESIDUAL_CLIP),
                ordered.gather(1, (3 * count // 4).clamp(max=_QUADRANT - 1)[:, None])[:, 0].clamp(max=RESIDUAL_CLIP),
            ):  # fmt: skip
                parts.append(torch.where(some, what, 0.0))
        fired = scan.sensed.sum(1).clamp_min(1)
        parts.append(scan.hit.sum(1) / fired)
        parts.append((scan.hit & (scan.ranges < 1.5)).sum(1) / fired)
        recent = scan.sensed & (seen.tick - self._when <= 2)
        jump = recent & ((scan.ranges - self._last).abs() > 0.5)
        parts.append(jump.sum(1) / recent.sum(1).clamp_min(1))
        events = seen.ring.total
        parts.append(torch.log1p(events))
        parts.append(torch.log((events + 5) / (seen.ring_expected + 5)))
        rates = belief.rates if belief.rates is not None else torch.zeros(len(events), 3, dtype=torch.float64)
        self._last = torch.where(scan.sensed, scan.ranges, self._last)
        self._when = torch.where(scan.sensed, seen.tick, self._when)
        return torch.cat([torch.stack([p.double() for p in parts], 1), rates.double()], 1)


def comparable_beams(seen: Observation) -> Tensor:
    """Beams that were fired and for which something was expected, bool `[N, 120]`."""
    return seen.scan.sensed & seen.belief.known


def residuals(seen: Observation) -> Tensor:
    """min(|r − r_pred|, 1 m) `[N, 120]`; beyond the gate nothing is known of either."""
    expected = torch.minimum(seen.belief.ranges, seen.scan.gate[:, None])
    return (seen.scan.ranges - expected).abs().clamp(max=RESIDUAL_CLIP)
