from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ranvier.bench.cell
from ranvier.bench import runner
from ranvier.bench import suite as suites
from ranvier.bench.result import Result, read_failure, write_result
from ranvier.bench.suite import Cell, Suite
from ranvier.errors import ArgumentError, ConfigError

Do = Callable[[Cell], None]


class Bench:
    """A suite of recipes that nobody trains: cells are invented on the spot, or do what `acts` says."""

    def __init__(self, out: Path, synthetic: Callable[..., Result]) -> None:
        self.out, self.synthetic = out, synthetic
        self.acts: dict[str, Do] = {}
        self.ran: list[str] = []

    def suite(self, **changes: Any) -> Suite:
        document = {"name": "tiny", "version": 1, "title": "Tiny", "budget_minutes": 1, "models": ["a", "b", "c"],
                    "data": ["digits"], "seeds": [0, 1], **changes}  # fmt: skip
        return suites.parse_suite(document)

    def execute(self, cell: Cell, out: Path, threads: int) -> None:
        self.ran.append(cell.run_id)
        self.acts.get(cell.label, lambda cell: None)(cell)
        result = self.synthetic(cell.label, cell.seed).model_copy(
            update={"run_id": cell.run_id, "config": cell.recipe, "config_hash": cell.config_hash,
                    "variant_hash": cell.variant_hash}
        )  # fmt: skip
        write_result(runner.result_path(cell, out), result)

    def run(self, suite: Suite | None = None, **options: Any) -> runner.BenchResult:
        self.ran.clear()
        options = {"runner": "inline", "show_progress": False, **options}
        return runner.run(suite or self.suite(), self.out, **options)


@pytest.fixture
def bench(tmp_path: Path, synthetic: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> Bench:
    class AnyRecipe:
        def __init__(self, draft: dict[str, Any]) -> None:
            self.draft = draft

        def model_dump(self, mode: str) -> dict[str, Any]:
            return self.draft

    made = Bench(tmp_path / "out", synthetic)
    monkeypatch.setattr(suites, "validate_recipe", AnyRecipe)
    monkeypatch.setattr(ranvier.bench.cell, "execute", made.execute)
    return made


def fail(cell: Cell) -> None:
    raise RuntimeError(f"no luck with {cell.label}")


def test_finished_cells_are_skipped_by_content(bench: Bench) -> None:
    first = bench.run()
    assert (first.ran, first.skipped, len(first.results), first.exit_code) == (6, 0, 6, 0)
    second = bench.run()
    assert (second.ran, second.skipped, len(second.results)) == (0, 6, 6) and bench.ran == []
    third = bench.run(bench.suite(seeds=[0, 1, 2]))
    assert (third.ran, third.skipped) == (3, 6)
    changed = bench.run(bench.suite(base={"train": {"epochs": 9}}))
    assert (changed.ran, changed.skipped) == (6, 0)


def test_one_failure_stops_nobody_and_is_tried_again(bench: Bench) -> None:
    bench.acts["b"] = fail
    outcome = bench.run()
    assert outcome.ran == 4 and len(outcome.failures) == 2 and outcome.exit_code == 1
    errors = sorted((bench.out / "errors").glob("*.json"))
    assert "no luck with b" in read_failure(errors[0]).error and len(errors) == 2
    bench.acts.clear()
    again = bench.run()
    assert (again.ran, again.skipped, again.exit_code) == (2, 4, 0)
    assert list((bench.out / "errors").glob("*.json")) == []


def test_damaged_and_foreign_results_are_run_again(bench: Bench) -> None:
    bench.run()
    first, second, *_ = sorted((bench.out / "results").glob("*.json"))
    first.write_text(first.read_text()[:200])
    document = json.loads(second.read_text())
    second.write_text(json.dumps({**document, "config_hash": "0" * 64}))
    assert bench.run().ran == 2


def test_ctrl_c_keeps_what_is_done(bench: Bench) -> None:
    def interrupt(cell: Cell) -> None:
        raise KeyboardInterrupt

    bench.acts["b"] = interrupt
    outcome = bench.run()
    assert outcome.interrupted and outcome.exit_code == 130
    assert len(outcome.results) == 2 and outcome.failures == []
    assert not (bench.out / "errors").exists()
    bench.acts.clear()
    assert bench.run().ran == 4


@pytest.mark.parametrize(
    ("given", "options", "expected"),
    [(None, {}, 8), (1, {}, 1), (3, {}, 4), (1, {"workers": 2}, 4), (1, {"threads": 3}, 3)],
)
def test_cores_are_shared_out(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, given: int | None, options: dict[str, Any], expected: int
) -> None:
    monkeypatch.setattr(runner, "available_cores", lambda: 8)
    seen: list[int] = []
    monkeypatch.setattr(
        ranvier.bench.cell,
        "execute",
        lambda cell, out, threads: (seen.append(threads), bench.execute(cell, out, threads)),
    )
    bench.run(bench.suite(models=["a"], seeds=[0], threads=given), **options)
    assert seen == [expected]


def test_only_some_models(bench: Bench) -> None:
    outcome = bench.run(only=["c"])
    assert outcome.ran == 2 and {result.model.label for result in outcome.results} == {"c"}
    with pytest.raises(ConfigError, match="no model 'd'"):
        bench.run(only=["d"])


def test_a_second_run_into_the_same_folder_is_refused(bench: Bench) -> None:
    pytest.importorskip("fcntl", reason="no advisory locks on this system")
    messages: list[str] = []

    def enter_again(cell: Cell) -> None:
        try:
            runner.run(bench.suite(), bench.out, runner="inline", show_progress=False)
        except ConfigError as error:
            messages.append(str(error))

    bench.acts["a"] = enter_again
    bench.run()
    assert len(messages) == 2 and "another run is writing" in messages[0]


def test_manifest_and_recipes_lie_beside_the_results(bench: Bench) -> None:
    bench.run()
    manifest = json.loads((bench.out / "suite.json").read_text())
    assert len(manifest["run_ids"]) == 6 and manifest["wall_s"] >= 0
    assert {path.stem for path in (bench.out / "recipes").glob("*.yaml")} == set(manifest["run_ids"])


@pytest.mark.parametrize(
    "options", [{"workers": 0}, {"threads": 0}, {"runner": "rya"}], ids=["workers", "threads", "runner"]
)
def test_bad_arguments(bench: Bench, options: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match=next(iter(options))):
        bench.run(**options)


def test_a_process_that_dies_is_one_failed_cell(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", _script(bench.out.parent, "import os\nos.kill(os.getpid(), 9)"))
    outcome = bench.run(runner="process", workers=2)
    assert len(outcome.failures) == 6 and "SIGKILL" in outcome.failures[0].error


def test_a_process_says_its_last_line(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", _script(bench.out.parent, "raise SystemExit('the last word')"))
    outcome = bench.run(bench.suite(models=["a"], seeds=[0]), runner="process")
    assert [failure.error for failure in outcome.failures] == ["the last word"]


def test_a_stopped_process_is_asked_first(bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from ranvier.bench.process import in_process

    body = """
import pathlib, sys, time
try:
    sys.stdin.readline()
    pathlib.Path(FOLDER, "ready").touch()
    time.sleep(60)
except KeyboardInterrupt:
    pathlib.Path(FOLDER, "asked").touch()
"""
    monkeypatch.setattr(sys, "executable", _script(tmp_path, body.replace("FOLDER", repr(str(tmp_path)))))
    (cell,) = suites.expand(bench.suite(models=["a"], seeds=[0]))
    stop = threading.Event()
    waiter = threading.Thread(target=in_process, args=(cell, tmp_path, 1, stop))
    waiter.start()
    for _ in range(200):
        if (tmp_path / "ready").exists():
            break
        threading.Event().wait(0.05)
    stop.set()
    waiter.join(20)
    assert not waiter.is_alive() and (tmp_path / "asked").exists()


def _script(folder: Path, body: str) -> str:
    """An interpreter stand-in: whatever it is asked to run, it runs `body`."""
    program = folder / "program.py"
    program.write_text(body)
    path = folder / "python"
    path.write_text(f"#!/bin/sh\nexec {sys.executable} {program}\n")
    path.chmod(0o755)
    return str(path)
