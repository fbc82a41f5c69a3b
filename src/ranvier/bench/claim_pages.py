"""The pages of claims: an index with every verdict, and a page each with its rules, figures and seeds."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from ranvier.bench import claim_charts
from ranvier.bench.report import site_environment
from ranvier.bench.result import write_text
from ranvier.claims.record import ArmRecord, Machine, MetricRecord, read_result
from ranvier.claims.spread import Spread
from ranvier.errors import DataError


def build(folder: str | Path) -> Path:
    """Write `folder/index.html` and `folder/NAME/SCALE/index.html` for every result; returns the index.

    Raises `DataError` when there is no result, or one is damaged.
    """
    root = Path(folder)
    paths = sorted(root.glob("*/*/result.json"))
    if not paths:
        raise DataError(f"{root}: no results of claims; expected files like {root / 'NAME' / 'quick' / 'result.json'}")
    results = [(path, read_result(path)) for path in paths]
    environment = site_environment()
    built = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    page = environment.get_template("claim.html.j2")
    for path, result in results:
        figures = [(figure, claim_charts.draw(figure), claim_charts.draw(figure, 360)) for figure in result.figures]
        html = page.render(
            result=result, figures=figures, cell=cell, machine=machine_line, title=result.title, root="../../",
            built=built, marks=MARKS,
        )  # fmt: skip
        write_text(path.with_name("index.html"), html)
    index = root / "index.html"
    entries = [(path.parent.relative_to(root).as_posix() + "/index.html", result) for path, result in results]
    write_text(
        index, environment.get_template("claims.html.j2").render(entries=entries, title="Claims", root="", built=built)
    )
    return index


MARKS = {"holds": "✓", "fails": "✗", "undecided": "?"}


def cell(arm: ArmRecord, metric: MetricRecord) -> str:
    """Mean and spread of one arm's metric, in the metric's own precision."""
    values = arm.values.get(metric.name, [])
    if not values:
        return "–"
    spread = Spread.of(values)
    text = f"{spread.mean:.{metric.digits}f}"
    return text if spread.sd is None else f"{text} ± {spread.sd:.{metric.digits}f}"


def machine_line(machine: Machine) -> str:
    """One line about the machine."""
    threads = "thread" if machine.threads == 1 else "threads"
    return (
        f"{machine.processor}, {machine.cores} cores, {machine.threads} {threads} a trial; Ranvier {machine.ranvier}, "
        f"PyTorch {machine.torch}, Python {machine.python}, {machine.platform}"
    )
