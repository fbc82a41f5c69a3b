"""The report of an early-exit study: Pareto fronts, histograms of latency, the gap to the oracle."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from ranvier.bench import claim_charts
from ranvier.bench.exit_records import (
    EVALUATION,
    CalibrationRecord,
    EvaluationRecord,
    read_calibration,
    read_evaluation,
)
from ranvier.bench.report import site_environment
from ranvier.bench.result import write_text
from ranvier.claims.record import FigureRecord, LineRecord

_MOST_POINTS = 200


def exit_front(chosen: CalibrationRecord, found: EvaluationRecord | None = None) -> FigureRecord:
    """Accuracy over mean steps: the Pareto front of every criterion, fixed numbers of steps, and what was chosen."""
    lines = [_line("fixed steps", [(t + 1, a) for t, a in enumerate(chosen.fixed)])]
    lines += [_line(entry.name, _thinned(entry.front)) for entry in chosen.criteria if len(entry.front) > 1]
    lines += [
        _line(f"{entry.name}, chosen", [(entry.mean_steps, entry.accuracy)])
        for entry in chosen.criteria if entry.name != "fixed"
    ]  # fmt: skip
    caption = f"On {chosen.samples} samples held out of training."
    if found is not None:
        lines += [_line(f"{row.name}, {found.part}", [(row.mean_steps, row.accuracy)]) for row in found.rows[:1]]
        caption += f" The last point is the choice on {found.samples} samples of the {found.part} part."
    return FigureRecord(
        title="Accuracy and mean steps", x="mean steps", y="accuracy", kind="lines", log_x=False, log_y=False,
        caption=caption, lines=lines,
    )  # fmt: skip


def exit_histogram(found: EvaluationRecord) -> FigureRecord:
    """How many samples stop at each step, a line a criterion."""
    total = max(found.samples, 1)
    return FigureRecord(
        title="When samples stop", x="step", y="share of samples", kind="lines", log_x=False, log_y=False,
        caption="The last step holds those that no threshold stopped.",
        lines=[_line(row.name, [(t + 1, n / total) for t, n in enumerate(row.histogram)]) for row in found.rows],
    )  # fmt: skip


def oracle_gap(found: EvaluationRecord) -> FigureRecord:
    """Accuracy over mean steps of every criterion beside the oracle, which stops at the first right step."""
    oracle = found.oracle
    lines = [_line("fixed steps", [(t + 1, a) for t, a in enumerate(found.fixed)])]
    lines += [_line(row.name, [(row.mean_steps, row.accuracy)]) for row in found.rows]
    lines += [
        _line("oracle", [(oracle.mean_steps, oracle.accuracy)]),
        _line("oracle, optimistic", [(oracle.mean_steps_optimistic, oracle.accuracy)]),
    ]
    return FigureRecord(
        title="The gap to the oracle", x="mean steps", y="accuracy", kind="scatter", log_x=False, log_y=False,
        caption="The oracle stops at the first step that is right; samples that never are count all steps, or one "
        "(optimistic).", lines=lines,
    )  # fmt: skip


def figures(chosen: CalibrationRecord, found: EvaluationRecord | None) -> list[FigureRecord]:
    """All figures that there is data for."""
    return [exit_front(chosen, found), *([exit_histogram(found), oracle_gap(found)] if found else [])]


def write(folder: str | Path) -> Path:
    """`folder/index.html` and an SVG file a figure, from the files of `calibrate` and, when it was run, `evaluate`."""
    place = Path(folder)
    chosen = read_calibration(place)
    found = read_evaluation(place) if (place / EVALUATION).exists() else None
    made = figures(chosen, found)
    drawn = [(figure, claim_charts.draw(figure), claim_charts.draw(figure, 360)) for figure in made]
    html = site_environment().get_template("exit.html.j2").render(
        title="Early exit", chosen=chosen, found=found, figures=drawn, root="",
        built=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )  # fmt: skip
    index = place / "index.html"
    write_text(index, html)
    return index


def _line(label: str, points: list[tuple[float, float]]) -> LineRecord:
    return LineRecord(label=label, points=[(float(x), float(y), 0.0) for x, y in points])


def _thinned(front: list[tuple[float, float]]) -> list[tuple[float, float]]:
    stride = max(1, -(-len(front) // _MOST_POINTS))
    return [*front[:-1:stride], front[-1]] if front else []
