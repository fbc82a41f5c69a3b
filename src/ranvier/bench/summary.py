"""Results of many seeds as one leaderboard row: means, spreads, ranks and the Pareto front."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ranvier.bench.ranking import RankInterval, rank_intervals
from ranvier.bench.result import Result
from ranvier.bench.score import Score, score


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (`None` for a single value) of `n` values."""

    mean: float
    sd: float | None
    n: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread | None:
        """The spread of `values`, or `None` when there are none."""
        given = list(values)
        if not given:
            return None
        return cls(statistics.fmean(given), statistics.stdev(given) if len(given) > 1 else None, len(given))


@dataclass
class Row:
    """One experiment (a model with its configuration on one task) over its seeds."""

    key: str
    results: list[Result]
    score: Spread
    rank: int = 0
    ranks: RankInterval | None = None
    on_front: bool = False
    page: str = ""

    @property
    def first(self) -> Result:
        return self.results[0]

    @property
    def label(self) -> str:
        return self.first.model.label

    @property
    def kind(self) -> Score:
        """What `score` is: accuracy, mean IoU, mAP, bits a token, ..."""
        return score(self.first.task.metric)

    def merit(self, value: float) -> float:
        """A value of the score such that more is better."""
        return value if self.kind.higher else -value

    @property
    def mean_merit(self) -> float:
        return self.merit(self.score.mean)

    def spread(self, value: Callable[[Result], float | None]) -> Spread | None:
        """Spread over the seeds of one figure of the results."""
        return Spread.of(v for v in map(value, self.results) if v is not None)

    @property
    def synops(self) -> Spread | None:
        return self.spread(lambda result: result.synops)

    @property
    def energy(self) -> Spread | None:
        """As built, in pJ."""
        return self.spread(lambda result: result.energy.as_built.total_pj)

    @property
    def paper_energy(self) -> Spread | None:
        """By the publication's own formula, in pJ."""
        return self.spread(lambda result: result.energy.paper.total_pj if result.energy.paper else None)

    @property
    def train_s(self) -> Spread | None:
        return self.spread(lambda result: result.cost.train_s)

    @property
    def spike_driven(self) -> bool | None:
        """True only when every seed's audit found it so."""
        verdicts = [result.model.spike_driven for result in self.results]
        return None if any(verdict is None for verdict in verdicts) else all(verdicts)

    def energy_by(self, model: str) -> Spread | None:
        """By one energy model, in pJ, where every seed has it."""
        estimates = [result.energy.models.get(model) for result in self.results]
        return Spread.of(e.total_pj for e in estimates if e is not None) if all(estimates) else None

    def latency(self, batch: int) -> Spread | None:
        return self.spread(lambda result: result.latency_ms(batch))


@dataclass
class Board:
    """The leaderboard of one task in one version; results of different versions are never merged, nor are nets that
    were trained from scratch ("reproduced") with those that had been trained on other data before ("transfer")."""

    task: str
    version: int
    rows: list[Row] = field(default_factory=list)
    provenance: str = "reproduced"
    metric: str = "accuracy"

    @property
    def kind(self) -> Score:
        """What the rows are ranked by."""
        return score(self.metric)

    @property
    def title(self) -> str:
        other = "" if self.metric == "accuracy" else f" ({self.kind.title})"
        return f"{self.task}@{self.version}{other}" + (
            "" if self.provenance == "reproduced" else f", {self.provenance}"
        )


def summarise(results: Iterable[Result]) -> list[Board]:
    """Group results by task and experiment, rank by the mean of the task's score (equal means share a rank), mark the
    Pareto front."""
    groups: dict[tuple[str, int, str, str], dict[str, list[Result]]] = {}
    for result in results:
        task = groups.setdefault((result.task.name, result.task.version, result.provenance, result.task.metric), {})
        task.setdefault(result.variant_hash, []).append(result)
    boards: list[Board] = []
    for (name, version, provenance, metric), variants in sorted(groups.items()):
        rows = [_row(key, members) for key, members in variants.items()]
        rows.sort(key=lambda row: (-row.mean_merit, row.label, row.key))
        for row in rows:
            row.rank = 1 + sum(other.mean_merit > row.mean_merit for other in rows)
            row.on_front = not any(_dominates(other, row, lambda r: r.energy) for other in rows)
        for row, ranks in zip(rows, rank_intervals(rows), strict=True):
            row.ranks = ranks
        boards.append(Board(name, version, rows, provenance, metric))
    return boards


def _row(key: str, members: list[Result]) -> Row:
    members = sorted(members, key=lambda result: result.seed)
    values = Spread.of(result.score for result in members)
    assert values is not None
    return Row(key, members, values)


Cost = Callable[[Row], Spread | None]
"""One figure of a row of which less is better."""


def pareto_front(rows: Iterable[Row], cost: Cost) -> list[Row]:
    """The rows that no other is both better and cheaper than; rows without that cost are left out."""
    known = [row for row in rows if cost(row) is not None]
    return [row for row in known if not any(_dominates(other, row, cost) for other in known)]


def _dominates(one: Row, other: Row, cost: Cost) -> bool:
    a, b = cost(one), cost(other)
    if a is None or b is None:
        return False
    no_worse = one.mean_merit >= other.mean_merit and a.mean <= b.mean
    return no_worse and (one.mean_merit > other.mean_merit or a.mean < b.mean)
