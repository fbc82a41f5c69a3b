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
        title=text(f"{board.task} (task version {board.version}); energy as built"), title_justify="left",
        box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0),
    )  # fmt: skip
    units = quantity.columns(board)
    heads = (
        "#", "model", f"{board.kind.title}\n{board.kind.unit}", "n", f"params\n{units['params'].unit}", "T",
        "spike\ndriven", f"SynOps\n{units['synops'].unit}", f"energy\n{units['energy'].unit}", "train\ns",
    )  # fmt: skip
    for head in heads:
        name = head.startswith("model")
        left = name or head.startswith("spike")
        table.add_column(
            text(head), justify="left" if left else "right", no_wrap=not name, min_width=16 if name else None
        )
    for row in board.rows:
        table.add_row(*map(text, _cells(row, units)), style="dim" if row.score.n == 1 else "")
    return table


def _cells(row: Row, units: dict[str, quantity.Column]) -> list[str]:
    driven = {None: quantity.MISSING, True: "yes", False: "no"}[row.spike_driven]
    return [
        str(row.rank), row.label, quantity.shown(row.kind, row.score), str(row.score.n),
        units["params"].text(row.first.model.params), str(row.first.model.steps), driven,
        units["synops"].text(quantity.mean(row.synops)), units["energy"].text(quantity.mean(row.energy)),
        quantity.plain(quantity.mean(row.train_s)),
    ]  # fmt: skip
