"""Run the notebooks of `examples/` and write them, with what they say and draw, as pages of the documentation.

    python scripts/notebook_pages.py

A notebook lies in `examples/` without outputs. Its page in `docs/notebooks/` has the same text and code, the printed
lines, and the figures as SVG in `docs/assets/notebooks/`. No Jupyter is needed for it.
"""

from __future__ import annotations

import io
import json
import os
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "examples"
PAGES = ROOT / "docs" / "notebooks"
PICTURES = ROOT / "docs" / "assets" / "notebooks"


@dataclass
class Cell:
    """A cell; after `run`, what it printed and drew (SVG)."""

    code: bool
    source: str
    printed: str = ""
    drawn: list[str] = field(default_factory=list[str])


def read(path: Path) -> list[Cell]:
    """The cells of a notebook; an error for one that holds outputs."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cells: list[Cell] = []
    for cell in notebook["cells"]:
        if cell.get("outputs") or cell.get("execution_count"):
            raise SystemExit(f"error: {path.name} holds outputs; clear them, the page has its own")
        cells.append(Cell(cell["cell_type"] == "code", "".join(cell["source"])))
    return cells


def run(cells: list[Cell], name: str) -> None:
    """Execute the code cells in order, in one namespace, and keep what they print and draw."""
    import matplotlib

    matplotlib.use("Agg", force=True)
    matplotlib.rcParams["svg.hashsalt"] = name  # the same figure is the same file
    import matplotlib.pyplot as plt

    names: dict[str, Any] = {"__name__": "__main__"}
    for number, cell in enumerate(cells):
        if not cell.code:
            continue
        out = io.StringIO()
        with redirect_stdout(out):
            exec(compile(cell.source, f"{name}, cell {number}", "exec"), names)
        cell.printed = out.getvalue()
        for figure in plt.get_fignums():
            drawn = io.StringIO()
            plt.figure(figure).savefig(drawn, format="svg", metadata={"Date": None})
            cell.drawn.append(drawn.getvalue())
        plt.close("all")


def page(cells: list[Cell], name: str) -> tuple[str, dict[str, str]]:
    """The page, and its pictures by file name."""
    parts: list[str] = []
    pictures: dict[str, str] = {}
    for cell in cells:
        if not cell.code:
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        if cell.printed:
            parts.append(f"```text\n{cell.printed.rstrip()}\n```")
        for svg in cell.drawn:
            file = f"{name}-{len(pictures)}.svg"
            pictures[file] = "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"
            parts.append(f"![What the cell above draws](../assets/notebooks/{file})")
    parts.append(f"*This page is `examples/{name}.ipynb`, run by `python scripts/notebook_pages.py`.*")
    return "\n\n".join(parts) + "\n", pictures


def write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(content, encoding="utf-8")
    os.replace(temporary, path)


def main() -> int:
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        cells = read(path)
        run(cells, path.stem)
        text, pictures = page(cells, path.stem)
        write(PAGES / f"{path.stem}.md", text)
        for file, svg in pictures.items():
            write(PICTURES / file, svg)
        print(f"{path.stem}: {sum(c.code for c in cells)} cells, {len(pictures)} figures")
    return 0


if __name__ == "__main__":
    sys.exit(main())
