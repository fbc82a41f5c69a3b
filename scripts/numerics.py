"""Write the table of `docs/numerics.md`: what every neuron does in fp16, bf16, fp32 and fp64.

    python scripts/numerics.py            # rewrites the part between the two marks
    python scripts/numerics.py lif alif   # prints rows

Each neuron gets the same random currents in every precision, and its outputs are compared with those of fp64.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from neuron_gallery import PLOTS, STEPS, Plot
from torch import Tensor

import ranvier
from ranvier.neurons import NEURONS, Neuron, build

PAGE = Path(__file__).resolve().parent.parent / "docs" / "numerics.md"
BEGIN, END = "<!-- table: scripts/numerics.py -->", "<!-- end of table -->"
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
SEED, BATCH, WIDTH = 0, 8, 64


@dataclass(frozen=True)
class Row:
    """One neuron: dtypes of its state by that of the input, and shares of outputs that are not those of fp64.

    `arithmetic`: fp64 gets the input as it was rounded, so that only the neuron's own arithmetic differs; `rounded`:
    fp64 gets the input before it was rounded. `rate`: share of outputs that are not 0 in fp64.
    """

    name: str
    state: dict[str, str]
    rate: float
    arithmetic: dict[str, float]
    rounded: dict[str, float]


def measure(name: str, batch: int = BATCH, width: int = WIDTH, seed: int = SEED) -> Row:
    """Run a neuron in every precision."""
    plot = PLOTS.get(name, Plot())
    arguments: dict[str, Any] = {"type": name, **plot.arguments}
    top = float(plot.current.abs().max())
    generator = torch.Generator().manual_seed(seed)
    x = (torch.rand(STEPS, batch, 1, width, generator=generator, dtype=torch.float64) * 1.2 - 0.2) * top
    exact = run(arguments, x)[0]
    state: dict[str, str] = {}
    arithmetic: dict[str, float] = {}
    rounded: dict[str, float] = {}
    for label, dtype in DTYPES.items():
        given = x.to(dtype)
        out, kept = run(arguments, given)
        assert out.dtype == dtype, f"{name}: {out.dtype} comes out where {dtype} goes in"
        state[label] = kept
        arithmetic[label] = deviation(out, run(arguments, given.double())[0])
        rounded[label] = deviation(out, exact)
    state["fp64"] = run(arguments, x[:2] if NEURONS[name].streams else x)[1]
    return Row(name, state, float((exact != 0).double().mean()), arithmetic, rounded)


@torch.no_grad()
def run(arguments: dict[str, Any], x: Tensor) -> tuple[Tensor, str]:
    """Outputs of a fresh neuron, and the dtype of its state ("" where it has none)."""
    torch.manual_seed(SEED)
    neuron: Neuron = build(arguments)
    if x.dtype == torch.float64:
        neuron.double()
    if not neuron.streams:
        return neuron(x), ""
    with ranvier.carry(neuron) as memory:
        out = neuron(x)
        kept = sorted({str(s.dtype).removeprefix("torch.") for state in memory.states.values() for s in state})
    return out, ", ".join(kept)


def deviation(found: Tensor, wanted: Tensor) -> float:
    """Share of outputs that differ by more than the rounding of the output itself."""
    step = 2 * torch.finfo(found.dtype).eps
    found = found.double()
    return float(((found - wanted).abs() > step * wanted.abs().clamp_min(1e-3)).double().mean())


def table(rows: list[Row]) -> str:
    """Markdown."""
    head = (
        "| neuron | state for fp16 / bf16 / fp32 / fp64 input | outputs not 0 | arithmetic: fp16 | bf16 | fp32 "
        "| with the input rounded: fp16 | bf16 | fp32 |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n"
    )
    return head + "".join(_line(row) for row in rows)


def _line(row: Row) -> str:
    short = {"float32": "32", "float64": "64", "float16": "16", "bfloat16": "b16", "": "none"}
    states = " / ".join(short.get(row.state[label], row.state[label]) for label in (*DTYPES, "fp64"))
    if set(row.state.values()) == {""}:
        states = "none kept"
    shares = [_share(part[label]) for part in (row.arithmetic, row.rounded) for label in DTYPES]
    return f"| `{row.name}` | {states} | {row.rate:.1%} | {' | '.join(shares)} |\n"


def _share(value: float) -> str:
    return "0" if value == 0 else f"{value:.1e}" if value < 1e-3 else f"{value:.1%}"


def main(names: list[str]) -> None:
    """Print the rows of `names`, or rewrite the page."""
    torch.set_num_threads(1)
    text = table([measure(name) for name in names or sorted(NEURONS)])
    if names:
        print(text)
        return
    page = PAGE.read_text(encoding="utf-8")
    page = re.sub(f"(?s){re.escape(BEGIN)}.*{re.escape(END)}", lambda _: f"{BEGIN}\n\n{text}\n{END}", page)
    temporary = PAGE.with_suffix(".tmp")
    temporary.write_text(page, encoding="utf-8")
    os.replace(temporary, PAGE)


if __name__ == "__main__":
    main(sys.argv[1:])
