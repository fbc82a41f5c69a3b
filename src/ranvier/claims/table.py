"""The finished trials of a claim, as rules and figures read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ranvier.claims.claim import Claim, Outcome
from ranvier.claims.spread import Spread
from ranvier.errors import ArgumentError


@dataclass(frozen=True)
class Table:
    """Outcomes by arm and seed; only seeds that every arm has count."""

    claim: Claim
    outcomes: Mapping[tuple[str, int], Outcome]

    @property
    def seeds(self) -> list[int]:
        """The seeds for which every arm is finished."""
        arms = [arm.name for arm in self.claim.arms]
        every = sorted({seed for _, seed in self.outcomes})
        return [seed for seed in every if all((arm, seed) in self.outcomes for arm in arms)]

    def values(self, metric: str, arm: str) -> list[float]:
        """One value a seed, in the order of `seeds`."""
        if not self.seeds:
            raise ArgumentError(f"claim {self.claim.name!r}: no seed has all of its arms finished")
        return [float(self.outcomes[arm, seed].metrics[metric]) for seed in self.seeds]

    def spread(self, metric: str, arm: str) -> Spread:
        """Mean and spread over seeds."""
        return Spread.of(self.values(metric, arm))

    def difference(self, metric: str, arm: str, other: str, sign: float = 1.0) -> Spread:
        """Spread of the paired differences `sign * (arm - other)`."""
        pairs = zip(self.values(metric, arm), self.values(metric, other), strict=True)
        return Spread.of(sign * (a - b) for a, b in pairs)

    def curve(self, name: str, arm: str) -> list[tuple[float, Spread]]:
        """A curve's points with their spread over the seeds that have them; empty where no trial drew it."""
        collected: dict[float, list[float]] = {}
        for seed in self.seeds:
            points: Sequence[tuple[float, float]] = self.outcomes[arm, seed].curves.get(name, ())
            for x, y in points:
                collected.setdefault(float(x), []).append(float(y))
        return [(x, Spread.of(values)) for x, values in sorted(collected.items())]
