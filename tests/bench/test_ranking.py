"""Bootstrap ranks, Pareto fronts by any cost, and figures that others report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ranvier import bench
from ranvier.bench.ranking import rank_intervals, standings
from ranvier.bench.reported import Reported, for_task, of_folder, published
from ranvier.bench.result import Result, write_json
from ranvier.bench.summary import Board, pareto_front, summarise
from ranvier.errors import DataError

Synthetic = Callable[..., Result]


def results(synthetic: Synthetic, task: str, accuracies: dict[str, list[float]]) -> list[Result]:
    found: list[Result] = []
    for label, values in accuracies.items():
        for seed, value in enumerate(values):
            result = synthetic(label, seed)
            result.metrics["accuracy"].value = value
            result.task.name = task
            found.append(result)
    return found


def board(synthetic: Synthetic, accuracies: dict[str, list[float]], task: str = "a") -> Board:
    [found] = summarise(results(synthetic, task, accuracies))
    return found


def test_ranks_that_cannot_change_have_no_width(synthetic: Synthetic) -> None:
    rows = board(synthetic, {"best": [0.9, 0.91], "middle": [0.8, 0.82], "last": [0.5, 0.6, 0.7]}).rows
    assert [(row.rank, row.ranks.low, row.ranks.high) for row in rows if row.ranks] == [(1, 1, 1), (2, 2, 2), (3, 3, 3)]


def test_overlapping_seeds_widen_the_ranks(synthetic: Synthetic) -> None:
    rows = board(synthetic, {"steady": [0.8, 0.8, 0.8], "wild": [0.7, 0.79, 0.95], "one": [0.75]}).rows
    ranks = {row.label: interval for row, interval in zip(rows, rank_intervals(rows), strict=True)}
    assert (ranks["steady"].low, ranks["steady"].high) == (1, 2)
    assert (ranks["wild"].low, ranks["wild"].high) == (1, 3)
    assert ranks["one"].low is None and ranks["one"].rank == 3
    assert rank_intervals(rows) == rank_intervals(rows)  # the draws are fixed


def test_standings_count_shared_models_alone(synthetic: Synthetic) -> None:
    first = board(synthetic, {"a": [0.9, 0.91], "b": [0.8, 0.81], "only here": [0.99, 0.99]})
    second = board(synthetic, {"a": [0.5, 0.51], "b": [0.6, 0.61]}, "b")
    found = standings([first, second])
    assert [(s.label, s.mean_rank.rank, s.tasks, s.seeds) for s in found] == [("a", 1.5, 2, 2), ("b", 1.5, 2, 2)]
    assert (found[0].mean_rank.low, found[0].mean_rank.high) == (1.5, 1.5)
    assert standings([]) == [] and standings([first, board(synthetic, {"c": [0.1]}, "c")]) == []


def test_transfer_never_shares_a_board(synthetic: Synthetic) -> None:
    boards = summarise([synthetic("a"), synthetic("b", provenance="transfer")])
    assert [(b.title, [row.label for row in b.rows]) for b in boards] == [
        ("synthetic@1", ["a"]), ("synthetic@1, transfer", ["b"]),
    ]  # fmt: skip


def test_the_front_depends_on_the_cost(synthetic: Synthetic) -> None:
    cheap, dear = synthetic("cheap", accuracy=0.8, energy=1e6), synthetic("dear", accuracy=0.9, energy=4e6)
    [found] = summarise([cheap, dear])
    assert {row.label for row in pareto_front(found.rows, lambda row: row.energy)} == {"cheap", "dear"}
    assert [row.label for row in pareto_front(found.rows, lambda row: row.energy_by("lemaire2022"))] == ["dear"]
    assert pareto_front(found.rows, lambda row: row.energy_by("tiled")) == []


def test_published_figures_name_their_source() -> None:
    known = published()
    assert len(known) > 30 and all(record.source and 0 < record.value < 1 for record in known)
    listed = for_task("cifar10", known)
    assert listed[-1].model == "SpikingResformer" and listed[-1].provenance == "transfer"
    assert listed[0].value == max(record.value for record in listed if record.provenance == "reported")
    assert for_task("digits", known) == []


def test_records_of_ones_own_are_checked(synthetic: Synthetic, site: Path) -> None:
    record = Reported(model="Net", task="synthetic", value=0.5, source="Someone, 2024")
    write_json(site / "reported" / "net.json", record.model_dump(mode="json"))
    assert of_folder(site) == [record] and bench.validate(site) == []
    write_json(site / "reported" / "bad.json", {"model": "Net", "task": "synthetic", "value": 0.5})
    assert any("source" in problem for problem in bench.validate(site))
    with pytest.raises(DataError, match="source"):
        bench.report.build(site)


def test_parts_of_every_energy_model_must_sum(synthetic: Synthetic, tmp_path: Path) -> None:
    result = synthetic("net")
    result.energy.models["paper"].breakdown["ac"] *= 2
    write_json(tmp_path / "results" / f"{result.run_id}.json", result.model_dump(mode="json"))
    assert any("energy.models.paper" in problem for problem in bench.validate(tmp_path))
