"""Ranks with their uncertainty: what the ranks would be had other seeds been drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ranvier.bench.summary import Board, Row

DRAWS = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class RankInterval:
    """A rank, and the bounds that hold in 95 % of the bootstrap draws (None: too few seeds to say)."""

    rank: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Standing:
    """A model over several tasks: its mean rank with bounds, the tasks it was run on, and its fewest seeds."""

    label: str
    mean_rank: RankInterval
    tasks: int
    seeds: int


def rank_intervals(rows: Sequence[Row], draws: int = DRAWS, seed: int = 0) -> list[RankInterval]:
    """Rank of each row by its mean score, with bounds from drawing its seeds again with replacement.

    A row with one seed has no spread to draw from: it keeps its mean in every draw and gets no bounds of its own.
    """
    ranks = _drawn_ranks(rows, draws, seed)
    return [_interval(row.rank, ranks[:, at], row.score.n > 1) for at, row in enumerate(rows)]


def standings(boards: Sequence[Board], draws: int = DRAWS, seed: int = 0) -> list[Standing]:
    """Mean rank over the boards of every model that is on all of them, the best first.

    Ranks are counted among these models alone, so that a model that is missing somewhere moves nobody.
    """
    if not boards:
        return []
    shared = set.intersection(*(_labels(board) for board in boards))
    if not shared:
        return []
    drawn: list[np.ndarray] = []
    observed: list[np.ndarray] = []
    order = sorted(shared)
    fewest = dict.fromkeys(order, 1 << 30)
    for number, board in enumerate(boards):
        rows = {row.label: row for row in board.rows}
        chosen = [rows[label] for label in order]
        drawn.append(_drawn_ranks(chosen, draws, seed + number))
        observed.append(_ranks(np.array([[row.mean_merit for row in chosen]]))[0])
        for row in chosen:
            fewest[row.label] = min(fewest[row.label], row.score.n)
    means, spread = np.mean(observed, axis=0), np.mean(drawn, axis=0)
    found = [
        Standing(label, _interval(float(means[at]), spread[:, at], fewest[label] > 1), len(boards), fewest[label])
        for at, label in enumerate(order)
    ]
    return sorted(found, key=lambda standing: (standing.mean_rank.rank, standing.label))


def _labels(board: Board) -> set[str]:
    labels = [row.label for row in board.rows]
    return {label for label in labels if labels.count(label) == 1}  # a name that means two things means neither


def _drawn_ranks(rows: Sequence[Row], draws: int, seed: int) -> np.ndarray:
    """Ranks `[draws, rows]`."""
    generator = np.random.default_rng(seed)
    means = np.empty((draws, len(rows)))
    for at, row in enumerate(rows):
        values = np.array([row.merit(result.score) for result in row.results])
        means[:, at] = values[generator.integers(0, len(values), (draws, len(values)))].mean(1)
    return _ranks(means)


def _ranks(means: np.ndarray) -> np.ndarray:
    """1 for the highest; equal values share the best rank."""
    return 1 + (means[:, None, :] > means[:, :, None]).sum(2)


def _interval(rank: float, drawn: np.ndarray, known: bool) -> RankInterval:
    if not known:
        return RankInterval(rank, None, None)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return RankInterval(rank, min(float(low), rank), max(float(high), rank))
