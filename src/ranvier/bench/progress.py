"""The bars of a running suite: one for all cells, one for each running cell, fed from the runs' own metrics."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ranvier.bench.suite import Cell, Suite
from ranvier.extras import require

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

METRICS = "metrics.jsonl"


class Bars:
    """Silent unless a rich progress display is given."""

    def __init__(self, out: Path, display: Progress | None = None, overall: TaskID | None = None) -> None:
        self._out = out
        self._display = display
        self._overall = overall
        self._tasks: dict[str, tuple[TaskID, Path]] = {}

    def start(self, cell: Cell) -> None:
        if self._display is None:
            return
        epochs = cell.recipe.get("train", {}).get("epochs")
        task = self._display.add_task(_plain(f"{cell.label}, seed {cell.seed}"), total=epochs)
        self._tasks[cell.run_id] = (task, self._out / "runs" / cell.run_id / METRICS)

    def poll(self) -> None:
        """Advance each running cell to the epochs that its metrics file has."""
        if self._display is None:
            return
        for task, path in list(self._tasks.values()):
            with contextlib.suppress(OSError):
                epochs = path.read_bytes().count(b'"epoch"')
                self._display.update(task, completed=epochs)

    def finished(self, cell: Cell) -> None:
        self._close(cell)

    def failed(self, cell: Cell, message: str) -> None:
        self._close(cell)
        self.say(f"{cell.label}, seed {cell.seed} failed: {message}", style="red")

    def say(self, message: str, style: str = "") -> None:
        if self._display is not None:
            self._display.console.print(message, style=style, markup=False, highlight=False)

    def _close(self, cell: Cell) -> None:
        if self._display is None:
            return
        task = self._tasks.pop(cell.run_id, None)
        if task is not None:
            self._display.remove_task(task[0])
        if self._overall is not None:
            self._display.advance(self._overall)


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)


@contextlib.contextmanager
def shown(suite: Suite, out: Path, total: int, done: int, *, enabled: bool) -> Iterator[Bars]:
    """Bars on the terminal while the block runs."""
    if not enabled:
        yield Bars(out)
        return
    rich = require("rich.progress", extra="cli")
    columns = (
        rich.TextColumn("{task.description}"), rich.BarColumn(), rich.MofNCompleteColumn(),
        rich.TimeElapsedColumn(),
    )  # fmt: skip
    with rich.Progress(*columns) as display:
        overall = display.add_task(_plain(suite.title), total=total, completed=done)
        yield Bars(out, display, overall)
