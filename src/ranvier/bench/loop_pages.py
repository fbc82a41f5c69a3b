"""Report pages of closed loops, in the style of the other reports."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ranvier.bench import claim_charts
from ranvier.bench.report import site_environment
from ranvier.bench.result import write_text
from ranvier.claims.record import FigureRecord, LineRecord

if TYPE_CHECKING:
    from ranvier.loop.compare import Row
    from ranvier.loop.report import Report


def write_run(folder: Path, report: Report, picture: Path | None = None) -> Path:
    """`folder/index.html` and `folder/report.json` of one run; the animation is put into the page."""
    folder.mkdir(parents=True, exist_ok=True)
    document = report.document()
    write_text(folder / "report.json", json.dumps(document, indent=1, allow_nan=False) + "\n")
    image = None
    if picture is not None:
        image = "data:image/gif;base64," + base64.b64encode(picture.read_bytes()).decode()
    split = report.energy()
    figures = [_bars("Energy by stage", "mJ a tick", [(stage, value, 0.0) for stage, value in split.items() if value])]
    modes: dict[str, int] = {}
    for episode in report.episodes:
        for mode, ticks in episode.modes.items():
            modes[mode] = modes.get(mode, 0) + ticks
    if sum(count for mode, count in modes.items() if mode != "nominal"):
        figures.append(_bars("States of the monitor", "agent-ticks", [(m, float(c), 0.0) for m, c in modes.items()]))
    return _page(folder, "Sensing-to-action loop", [], figures, document["summary"], document["config"], image,
                 [vars(i) for i in list(report.incidents)[:50]])  # fmt: skip


def write_comparison(folder: Path, rows: Sequence[Row]) -> Path:
    """`folder/index.html` and `folder/compare.json` of several loops on the same worlds."""
    folder.mkdir(parents=True, exist_ok=True)
    documents = [row.document() for row in rows]
    write_text(folder / "compare.json", json.dumps(documents, indent=1, allow_nan=False) + "\n")
    scatter = FigureRecord(
        title="Success over energy", x="energy, share of full sensing", y="success", kind="scatter", log_x=True,
        log_y=False, caption="All stages: laser, camera, network and radio.",
        lines=[
            LineRecord(label=row.label, points=[(max(row.report.relative(), 1e-6), row.report.success, 0.0)])
            for row in rows
        ],
    )  # fmt: skip
    figures = [
        scatter,
        _bars("Success", "share of agents", [(row.label, row.report.success, row.standard_error) for row in rows]),
    ]
    return _page(folder, "Loops compared", documents, figures, {}, {}, None, [])


def _bars(title: str, y: str, bars: list[tuple[str, float, float]]) -> FigureRecord:
    return FigureRecord(
        title=title, x="", y=y, kind="bars", log_x=False, log_y=False, caption="",
        lines=[LineRecord(label=label, points=[(0.0, mean, error)]) for label, mean, error in bars],
    )  # fmt: skip


def _page(folder: Path, title: str, rows: list[dict[str, Any]], figures: list[FigureRecord], summary: dict[str, Any],
          config: dict[str, Any], image: str | None, incidents: list[dict[str, Any]]) -> Path:  # fmt: skip
    drawn = [(figure, claim_charts.draw(figure), claim_charts.draw(figure, 360)) for figure in figures]
    html = site_environment().get_template("loop.html.j2").render(
        title=title, rows=rows, figures=drawn, summary=summary, config=config, image=image, incidents=incidents,
        root="", built=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )  # fmt: skip
    path = folder / "index.html"
    write_text(path, html)
    return path
