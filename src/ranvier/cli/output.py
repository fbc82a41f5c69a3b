"""What a verb prints: tables for people, JSON for scripts."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

PIPED_WIDTH = 1000  # a table takes what it needs


def console() -> Console:
    """A console on standard output; piped output is not folded or cut at 80 columns."""
    here = Console(file=sys.stdout, highlight=False)
    if not here.is_terminal:
        here = Console(file=sys.stdout, width=PIPED_WIDTH, highlight=False)
    return here


def plain(value: Any) -> Any:
    """`value` as JSON types: dataclasses, pydantic models, paths and sets included; NaN and infinity become None."""
    if hasattr(value, "model_dump"):
        return plain(value.model_dump(mode="json"))
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, str | bool | int) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Iterable):
        return [plain(v) for v in value]
    return str(value)


def print_json(value: Any) -> None:
    """`value` as one JSON document on standard output."""
    json.dump(plain(value), sys.stdout, indent=2, ensure_ascii=False, allow_nan=False)
    sys.stdout.write("\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str | None = None) -> None:
    """A table; columns whose name starts with `>` are aligned to the right, cells are text as it is (no markup)."""
    table = Table(
        title=title, title_justify="left", box=None, header_style="bold", pad_edge=False, show_header=any(columns)
    )
    for column in columns:
        table.add_column(column.removeprefix(">"), justify="right" if column.startswith(">") else "left")
    for row in rows:
        table.add_row(*(escape("" if cell is None else str(cell)) for cell in row))
    console().print(table)


@contextmanager
def counting(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error for long work, which is told `(done, total)`; nothing where nobody is watching."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    here = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=here, disable=not here.is_terminal, transient=True) as bar:
        task = bar.add_task(escape(what), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
