"""Reports and audits as rich tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ranvier.extras import require

if TYPE_CHECKING:
    from ranvier.measure.audit import Audit
    from ranvier.measure.report import Report

_STYLE = {"spikes": "green", "encoder": "cyan", "violation": "red", "silent": "yellow"}
_PREFIX = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def engineering(value: float) -> str:
    """`value` to four digits with a prefix: 26.21k, 3.566G."""
    for size, prefix in _PREFIX:
        if abs(value) >= size:
            return f"{value / size:.4g}{prefix}"
    return f"{value:.4g}"


def report_table(report: Report) -> Any:
    """One line a synaptic layer, totals below."""
    table = require("rich.table", extra="cli").Table(
        title=f"Per sample, {report.T} steps, mean of {report.samples}", show_footer=True
    )
    totals = report.totals
    table.add_column("layer", "total")
    table.add_column("op")
    table.add_column("what enters")
    for heading, footer in (
        ("rate", ""),
        ("SynOps", engineering(totals.synops)),
        ("dense MACs", engineering(totals.macs_dense)),
        ("weights", engineering(totals.weights)),
    ):
        table.add_column(heading, footer, justify="right")
    for row in report.rows:
        name = f"{row.name} (constant over time)" if row.static else row.name
        table.add_row(
            name, row.op, row.entering, f"{row.density:.2%}", engineering(row.synops), engineering(row.macs_dense),
            engineering(row.weights),
        )  # fmt: skip
    return table


def audit_table(audit: Audit) -> Any:
    """One line a synaptic layer with its verdict; the summary is the caption."""
    table = require("rich.table", extra="cli").Table(caption="\n".join([*audit.notes, audit.summary()]))
    for heading in ("layer", "op", "what enters"):
        table.add_column(heading)
    table.add_column("rate", justify="right")
    table.add_column("verdict")
    for row in audit.rows:
        style = _STYLE[row.verdict]
        table.add_row(row.name, row.op, row.entering, f"{row.density:.2%}", f"[{style}]{row.verdict}[/{style}]")
    return table
