from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path

import pytest

from ranvier.bench.result import Result, read_result
from ranvier.bench.summary import Spread, summarise

Make = Callable[..., Result]


@pytest.fixture
def made(synthetic: Make) -> Make:
    """An invented result with exactly this accuracy and energy."""

    def make(label: str, seed: int, accuracy: float, energy: float) -> Result:
        result = synthetic(label, seed)
        result.metrics["accuracy"].value = accuracy
        result.energy.as_built.total_pj = energy
        return result

    return make


def test_spread_is_the_sample_standard_deviation() -> None:
    spread = Spread.of([0.9, 0.95, 1.0])
    assert spread is not None and spread.sd is not None
    assert spread.mean == pytest.approx(0.95) and spread.sd == pytest.approx(0.05) and spread.n == 3
    assert Spread.of([0.5]) == Spread(0.5, None, 1)
    assert Spread.of([]) is None


def test_seeds_become_one_row_ranked_by_mean(made: Make) -> None:
    results = [made("a", 0, 0.9, 10), made("b", 0, 0.8, 5), made("a", 1, 0.7, 20), made("c", 3, 0.8, 1)]
    (board,) = summarise(results)
    assert [(row.label, row.rank) for row in board.rows] == [("a", 1), ("b", 1), ("c", 1)]
    assert board.rows[0].score.mean == pytest.approx(0.8)
    assert board.rows[0].score.sd == pytest.approx(statistics.stdev([0.9, 0.7]))
    assert board.rows[0].energy is not None and board.rows[0].energy.mean == 15


def test_pareto_front_keeps_what_nothing_beats(made: Make) -> None:
    results = [made("cheap", 0, 0.8, 1), made("best", 0, 0.9, 9), made("middle", 0, 0.85, 3), made("bad", 0, 0.84, 4)]
    (board,) = summarise(results)
    assert {row.label: row.on_front for row in board.rows} == {
        "cheap": True,
        "best": True,
        "middle": True,
        "bad": False,
    }


def test_versions_of_a_task_are_never_merged(synthetic: Make) -> None:
    newer = synthetic("a")
    newer.task.version = 2
    assert [board.title for board in summarise([synthetic("a"), newer])] == ["synthetic@1", "synthetic@2"]


def test_spike_driven_needs_every_seed(synthetic: Make) -> None:
    one, other = synthetic("a", 0), synthetic("a", 1)
    other.model.spike_driven = False
    assert summarise([one, other])[0].rows[0].spike_driven is False
    other.model.spike_driven = None
    assert summarise([one, other])[0].rows[0].spike_driven is None


def test_fixture_files_read_back(site: Path) -> None:
    results = [read_result(path) for path in (site / "results").glob("*.json")]
    assert len(results) == 13 and len(summarise(results)[0].rows) == 6
