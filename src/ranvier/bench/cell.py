"""One cell from recipe to result file."""

from __future__ import annotations

from pathlib import Path

from ranvier.bench.suite import Cell


def execute(cell: Cell, out: Path, threads: int) -> None:
    """Train (or resume) the cell's recipe, measure the selected net, and write `out/results/<run_id>.json`."""
    raise NotImplementedError((cell, out, threads))
