"""The tables of `docs/libraries.md`, from the stored result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[2] / "docs" / "libraries.md"
BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"
TITLES = {
    "neuron": "The neuron alone, 512 wide",
    "linear": "A linear layer of 512 to 512 and the neuron",
    "conv": "Convolution 3×3 of 16 channels on 16×16, batch norm and the neuron",
    "net": "Two such blocks with pooling, a hidden layer of neurons and a readout",
}
OURS = "ranvier (x/tau, atan, detached)"


def tables(result: dict[str, Any]) -> str:
    """Markdown: a table for each level, losses, and what was left out."""
    rows, machine = result["rows"], result["machine"]
    peers = list(dict.fromkeys(name for cell in rows["cells"] for name in cell["ratios"]))
    lines = [
        f"Measured on {machine['cpu']}, one thread, {machine['date']}, torch {machine['torch']} "
        f"(load of the machine when it ended: {machine['load']}; `{result['command']}`).", "",
    ]  # fmt: skip
    for level, title in TITLES.items():
        cells = [c for c in rows["cells"] if c["level"] == level and "seconds" in c]
        lines += [f"### {title}", "", "| T | batch | Ranvier, ms | MB | " + " | ".join(peers) + " |"]
        lines += ["| --- " * (4 + len(peers)) + "|"]
        for cell in cells:
            memory = cell.get("peak_bytes", {})
            entries = [_entry(cell, name, memory) for name in peers]
            own = f"{cell['seconds'][OURS] * 1e3:.2f} | {memory.get(OURS, 0) / 2**20:.0f}"
            lines.append(f"| {cell['T']} | {cell['batch']} | {own} | " + " | ".join(entries) + " |")
        lines.append("")
    lost = [
        f"{c['level']}, T = {c['T']}, batch {c['batch']}: {name} takes {ratio:.2f} of our time"
        for c in rows["cells"] for name, ratio in c["ratios"].items() if ratio < 1
    ]  # fmt: skip
    lines += ["### Where Ranvier loses", "", *([f"- {entry}" for entry in lost] or ["Nowhere in this run."]), ""]
    absent = [f"- {name}: {reason}" for name, reason in rows["failed"].items()]
    absent += [
        f"- {c['level']}, T = {c['T']}, batch {c['batch']}: {c['left_out']}" for c in rows["cells"] if "left_out" in c
    ]
    slow = {(c["level"], name) for c in rows["cells"] for name in c.get("too_slow", [])}
    absent += [f"- {level}: {name} in cells larger than one that took it too long" for level, name in sorted(slow)]
    lines += ["### Left out", "", *(absent or ["Nothing."])]
    return "\n".join(lines)


def _entry(cell: dict[str, Any], name: str, memory: dict[str, int]) -> str:
    if name not in cell["ratios"]:
        return "–"
    own = f"{cell['ratios'][name]:.1f}×"
    return f"{own}, {memory[name] / 2**20:.0f} MB" if name in memory else own


def write_page(path: Path) -> None:
    """Put the tables of the result at `path` between the marks of the page."""
    text = PAGE.read_text()
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n\n{tables(json.loads(path.read_text()))}\n\n{END}{after}")
