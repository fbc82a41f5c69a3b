"""The report: a folder of static pages that needs no server, no network and no script to be read."""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from ranvier.bench import charts, quantity
from ranvier.bench.manifest import Manifest, read_manifest
from ranvier.bench.picture import data_uri
from ranvier.bench.ranking import standings
from ranvier.bench.reported import for_task, of_folder, published
from ranvier.bench.result import (
    Failure,
    Result,
    Sample,
    SampleImage,
    read_failure,
    read_result,
    write_text,
)
from ranvier.bench.score import score
from ranvier.bench.suite import slug
from ranvier.bench.summary import Board, Row, Spread, pareto_front, summarise
from ranvier.errors import DataError
from ranvier.extras import require
from ranvier.measure.energy import ENERGY_MODEL_TITLES

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"


def load(out: str | Path, manifest: Manifest | None = None) -> tuple[list[Result], list[Failure], int]:
    """Results and failures of a folder, and how many result files the manifest leaves aside."""
    folder = Path(out)
    wanted = set(manifest.run_ids) if manifest else None
    results = [read_result(path) for path in sorted((folder / "results").glob("*.json"))]
    failures = [read_failure(path) for path in sorted((folder / "errors").glob("*.json"))]
    shown = [result for result in results if wanted is None or result.run_id in wanted]
    failed = [failure for failure in failures if wanted is None or failure.run_id in wanted]
    return shown, failed, len(results) - len(shown)


def build(out: str | Path) -> Path:
    """Write `index.html`, `pareto.html` and `models/*.html` for the results in `out`; returns the path of `index.html`.

    Raises `DataError` when the folder has neither results nor failures, or a file in it is not valid.
    """
    folder = Path(out)
    manifest = read_manifest(folder)
    results, failures, aside = load(folder, manifest)
    if not results and not failures:
        raise DataError(f"{folder}: no results to report; expected files in {folder / 'results'}")
    boards = summarise(results)
    for board in boards:
        for row in board.rows:
            row.page = f"models/{page_id(row)}.html"
    environment = site_environment()
    shared = {
        "manifest": manifest, "boards": boards, "q": quantity, "parts": PARTS,
        "built": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "title": manifest.title if manifest else "Benchmark",
    }  # fmt: skip
    pages: dict[Path, str] = {}
    template = environment.get_template("model.html.j2")
    for board in boards:
        for row in board.rows:
            pages[folder / row.page] = template.render(**shared, **_model_context(board, row), root="../")
    index = folder / "index.html"
    plots = {board.title: (charts.pareto(board.rows), charts.pareto(board.rows, 400, 380)) for board in boards}
    columns = {board.title: quantity.columns(board) for board in boards}
    records = [*published(), *of_folder(folder)]
    reported = {board.task: found for board in boards
                if board.metric == "accuracy" and (found := for_task(board.task, records))}  # fmt: skip
    scratch = [board for board in boards if board.provenance == "reproduced"]
    pages[folder / "pareto.html"] = environment.get_template("pareto.html.j2").render(
        **shared, fronts=[(board, _fronts(board)) for board in boards], root=""
    )
    machines = sorted({_machine(result) for result in results})
    for path, html in pages.items():
        write_text(path, html)
    # the index comes last, so that it never links to a page that is not there
    write_text(index, environment.get_template("index.html.j2").render(
        **shared, failures=failures, aside=aside, plots=plots, columns=columns, machines=machines,
        cells=len(results), kinds=list({board.metric: board.kind for board in boards}.values()), reported=reported,
        standings=standings(scratch) if len(scratch) > 1 else [], root="",
    ))  # fmt: skip
    for stale in (folder / "models").glob("*.html"):
        if stale not in pages:
            stale.unlink()
    return index


def _fronts(board: Board) -> list[tuple[str, Any, Any, list[str]]]:
    """Every Pareto plot of a board that has a figure: its name, wide and narrow, and who is on the front."""
    axes = [charts.ENERGY, charts.SYNOPS, *(charts.energy_axis(*entry) for entry in ENERGY_MODEL_TITLES.items())]
    drawn: list[tuple[str, Any, Any, list[str]]] = []
    for axis in axes:
        wide = charts.pareto(board.rows, cost=axis)
        if wide is not None:
            front = [row.label for row in pareto_front(board.rows, axis.value)]
            drawn.append((axis.name, wide, charts.pareto(board.rows, 400, 380, axis), front))
    return drawn


PARTS = {"mac": "multiply-accumulates", "ac": "additions", "neuron": "neurons"}
"""How the page calls the parts of an energy estimate."""


def page_id(row: Row) -> str:
    """The name of a row's page: readable, unique, and safe whatever the label holds."""
    return f"{slug(row.first.task.name)}-{slug(row.label)}-{row.key[:8]}"


def site_environment() -> Environment:
    """The templates of every page: escaping on, one style sheet, one script that the policy knows by its hash."""
    jinja2 = require("jinja2", extra="report")
    environment: Environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    shared: dict[str, Any] = {
        "script": Markup(script),
        "style": Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        # only this very script may run: text that slipped through the escaping would still be dead
        "policy": f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'",
    }
    environment.globals.update(shared)
    return environment


def _machine(result: Result) -> str:
    env = result.env
    device = "" if env.device == "cpu" else f", {env.device}"
    return f"{env.processor}, {env.cores} cores{device}, Python {env.python}, PyTorch {env.torch}"


def _model_context(board: Board, row: Row) -> dict[str, Any]:
    import yaml

    results = row.results
    figures: list[tuple[str, Any, str]] = [
        ("Accuracy", charts.accuracy_curves(results), _BAND),
        (row.kind.title, charts.score_curve(results), f"On the validation part. {_BAND}"),
        ("Loss", charts.loss_curves(results), "Training: as optimised, with its regularisation; validation: plain."),
        ("Accuracy by time step", charts.step_curve(results), "Test accuracy when reading stops after t steps."),
    ]
    sample = next((result.sample for result in results if result.sample is not None), None)
    return {
        "board": board, "row": row, "results": results, "first": row.first,
        "figures": [figure for figure in figures if figure[1] is not None],
        "energies": [
            (name, title, spread, row.first.energy.models[name])
            for name, title in ENERGY_MODEL_TITLES.items()
            if (spread := row.energy_by(name)) is not None
        ],
        "rates": firing_rates(results), "sample": sample,
        "pictures": [(name, picture, data_uri(picture)) for name, picture in _pictures(sample)],
        "others": _others(row),
        "rasters": [(entry, charts.raster(entry), charts.raster(entry, 330)) for entry in sample.rasters]
        if sample else [],
        "config": yaml.safe_dump(row.first.config, sort_keys=False, allow_unicode=True),
        "command": shlex.join(["ranvier", "train", f"recipes/{row.first.run_id}.yaml"]),
        "machine": sorted({_machine(result) for result in results}),
        "notes": sorted({note for result in results for note in result.notes}),
    }  # fmt: skip


_BAND = "Mean over seeds; the band runs from the lowest to the highest."


def _pictures(sample: Sample | None) -> list[tuple[str, SampleImage]]:
    if sample is None:
        return []
    named = (("Test sample", sample.image), ("Right answer", sample.truth), ("Answer of the net", sample.answer))
    return [(name, image) for name, image in named if image is not None]


def _others(row: Row) -> list[tuple[str, str]]:
    """The further test figures of a net that does not classify, as they read."""
    names = [name for name in row.first.metrics if name not in (row.first.task.metric, "accuracy")]
    found: list[tuple[str, str]] = []
    for name in names:
        spread = row.spread(lambda result, name=name: result.metrics[name].value if name in result.metrics else None)
        found.append((score(name).label, quantity.shown(score(name), spread)))
    return found


def firing_rates(results: Sequence[Result]) -> list[tuple[str, Spread]]:
    """Spikes a neuron and step, per neuron layer, over the seeds."""
    collected: dict[str, list[float]] = {}
    for result in results:
        for entry in result.rates:
            collected.setdefault(entry.layer, []).append(entry.rate)
    return [(layer, spread) for layer, values in collected.items() if (spread := Spread.of(values)) is not None]
