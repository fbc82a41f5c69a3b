"""The leaderboard in a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ranvier.bench import quantity
from ranvier.bench.result import Result
from ranvier.bench.summary import Board, Row, summarise
from ranvier.extras import require

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table


def leaderboard_table(results: Iterable[Result]) -> Group:
    """One rich table a task: print it with `rich.print` or a console. Energy is the one *as built*."""
    group: Group = require("rich.console", extra="cli").Group(*(_table(board) for board in summarise(results)))
    return group


def _table(board: Board) -> Table:
    box = require("rich.box", extra="cli")
    text = require("rich.text", extra="cli").Text
    table: Table = require("rich.table", extra="cli").Table(
        title=text(f"{board.task} (task version {board.version})"), box=box.SIMPLE_HEAD, title_justify="left"
    )
    columns = (
        "#", "model", "accuracy, %", "n", "params", "T", "spike-driven", "SynOps", "energy, as built", "latency, b1",
        "train",
    )  # fmt: skip
    for name in columns:
        table.add_column(
            name, justify="left" if name in ("model", "spike-driven") else "right", no_wrap=name != "model"
        )
    for row in board.rows:
        table.add_row(*map(text, _cells(row)), style="dim" if row.accuracy.n == 1 else "")
    return table


def _cells(row: Row) -> list[str]:
    driven = {None: "not audited", True: "yes", False: "no"}[row.spike_driven]
    return [
        str(row.rank), row.label, quantity.percent(row.accuracy), str(row.accuracy.n),
        quantity.engineering(row.first.model.params), str(row.first.model.steps), driven,
        quantity.engineering(quantity.mean(row.synops)), quantity.energy(quantity.mean(row.energy)),
        quantity.milliseconds(quantity.mean(row.latency(1))), quantity.seconds(quantity.mean(row.train_s)),
    ]  # fmt: skip
