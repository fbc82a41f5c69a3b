"""What a person sees of a run: a bar on a terminal, a line an epoch elsewhere, or nothing."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any

from ranvier.extras import require


class Display:
    """Shows steps and epochs on standard error; silent when not `enabled`."""

    def __init__(self, name: str, total_steps: int, epochs: int, start: int, enabled: bool) -> None:
        self._enabled = enabled
        self._epochs = epochs
        self._bar: Any = None
        self._task: Any = None
        if not enabled or not sys.stderr.isatty():
            return
        progress = require("rich.progress", extra="cli")
        console = require("rich.console", extra="cli").Console(stderr=True)
        self._bar = progress.Progress(
            progress.TextColumn("{task.description}", markup=False), progress.BarColumn(bar_width=24),
            progress.TaskProgressColumn(), progress.TextColumn("{task.fields[figures]}", markup=False),
            progress.TimeElapsedColumn(), progress.TextColumn("ETA"), progress.TimeRemainingColumn(),
            console=console, transient=True,
        )  # fmt: skip
        self._task = self._bar.add_task(name, total=total_steps, completed=start, figures="")

    def step(self, step: int, epoch: int, loss: float, accuracy: float | None, rate: float | None) -> None:
        """After an update: `epoch` from 0, running means of the epoch."""
        if self._bar is not None:
            figures = f"epoch {epoch + 1}/{self._epochs}  {_figures(loss, accuracy, rate)}"
            self._bar.update(self._task, completed=step, figures=figures)

    def epoch(self, entry: dict[str, Any]) -> None:
        """After an epoch: its line of `metrics.jsonl`."""
        width = len(str(self._epochs))
        line = f"epoch {entry['epoch']:>{width}}/{self._epochs}  "
        line += _figures(entry["train_loss"], entry.get("train_accuracy"), entry.get("firing_rate"))
        if "val_loss" in entry:
            line += f"  val loss {entry['val_loss']:.4f}"
        for name in (key for key in entry if key.startswith("val_") and key != "val_loss"):
            line += f"  val {'acc' if name == 'val_accuracy' else name.removeprefix('val_')} {entry[name]:.2%}"
        self.say(line)

    def say(self, line: str) -> None:
        """One line."""
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False)
        elif self._enabled:
            print(line, file=sys.stderr, flush=True)

    def __enter__(self) -> Display:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()


def _figures(loss: float, accuracy: float | None, rate: float | None) -> str:
    firing = "" if rate is None else f"  firing {rate:.1%}"
    right = "" if accuracy is None else f"  acc {accuracy:.2%}"
    return f"loss {loss:.4f}{right}{firing}"
