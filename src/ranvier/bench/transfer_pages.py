"""Report page of two domains in one net, in the style of the other reports."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ranvier.bench import claim_charts
from ranvier.bench.report import site_environment
from ranvier.bench.result import write_text
from ranvier.claims.record import FigureRecord, LineRecord
from ranvier.errors import ArgumentError
from ranvier.train.transfer.diagnose import DomainDiagnosis

MOST_HISTOGRAMS = 12


def write_diagnoses(folder: Path, diagnoses: Mapping[str, DomainDiagnosis], notes: Mapping[str, Any]) -> Path:
    """`folder/index.html` and `folder/transfer.json`: alignment by layer of every net, its table, its histograms."""
    if not diagnoses:
        raise ArgumentError("diagnoses must hold at least one")
    folder.mkdir(parents=True, exist_ok=True)
    documents = {name: found.to_dict() for name, found in diagnoses.items()}
    write_text(folder / "transfer.json", json.dumps({"notes": dict(notes), "nets": documents}, allow_nan=False) + "\n")
    html = site_environment().get_template("transfer.html.j2").render(
        title="Images and events inside the net", overview=_drawn(_by_layer(diagnoses)), notes=dict(notes), root="",
        nets=[(name, found, [_drawn(f) for f in _membranes(found)]) for name, found in diagnoses.items()],
        built=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )  # fmt: skip
    path = folder / "index.html"
    write_text(path, html)
    return path


def _drawn(figure: FigureRecord) -> tuple[FigureRecord, Any, Any]:
    return figure, claim_charts.draw(figure), claim_charts.draw(figure, 360)


def _by_layer(diagnoses: Mapping[str, DomainDiagnosis]) -> FigureRecord:
    lines = [
        LineRecord(label=name, points=[(float(n), v, 0.0) for n, v in enumerate(found.diagonal.values(), 1)])
        for name, found in diagnoses.items()
        if found.diagonal
    ]
    return FigureRecord(
        title="Alignment of each layer between the domains", x="neuron layer, from the input", y="debiased CKA",
        kind="lines", log_x=False, log_y=False, lines=lines,
        caption="1: the same similarities between samples in both domains. 0: unrelated. Samples are paired by class.",
    )  # fmt: skip


def _membranes(found: DomainDiagnosis) -> list[FigureRecord]:
    names = list(found.histograms)
    step = max(1, -(-len(names) // MOST_HISTOGRAMS))
    figures: list[FigureRecord] = []
    for name in names[::step]:
        histogram = found.histograms[name]
        width = (histogram.high - histogram.low) / len(histogram.static)
        lines = [
            LineRecord(
                label=label,
                points=[(histogram.low + (n + 0.5) * width, 100 * share, 0.0) for n, share in enumerate(shares)],
            )
            for label, shares in (("images", histogram.static), ("events", histogram.event))
        ]
        figures.append(
            FigureRecord(
                title=f"Membranes of {name}", x="membrane after reset", y="% of the values", kind="lines", log_x=False,
                log_y=False, lines=lines, caption=f"Total variation between the two: {histogram.distance:.3f}.",
            )
        )  # fmt: skip
    return figures
