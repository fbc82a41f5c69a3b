"""Write `docs/neurons.md`: every registered neuron with its equations and what it does with a current.

    python scripts/neuron_gallery.py

Equations are the neuron's docstring; the plots (`docs/assets/neurons/*.svg`) are made by running it.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ranvier.neurons import NEURONS, Neuron, build

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGE, PICTURES = DOCS / "neurons.md", DOCS / "assets" / "neurons"
STEPS = 160


def currents(*levels: float, steps: int = STEPS) -> Tensor:
    """A current that takes each of `levels` in turn for the same time."""
    return torch.tensor(levels, dtype=torch.float64).repeat_interleave(steps // len(levels))


PULSES = (0.0, 0.7, 0.0, 1.2, 0.0, 2.0, 0.0, -0.6)


@dataclass(frozen=True)
class Plot:
    """How a neuron is shown: arguments, input, and the state that is drawn (None: the first)."""

    arguments: dict[str, Any] = field(default_factory=dict)
    current: Tensor = field(default_factory=lambda: currents(*PULSES))
    state: int = 0
    unit: str = "steps"
    units_a_step: float = 1.0
    note: str = ""


GRADED = currents(0.0, 0.3, 0.6, 1.0, 1.6, 2.4, 0.0, -0.6)
PLOTS: dict[str, Plot] = {
    "if": Plot(current=currents(0, 0.05, 0, 0.15, 0, 0.4, 0, -0.1)),
    "qcfs_if": Plot(current=currents(0, 0.05, 0, 0.15, 0, 0.4, 0, -0.1)),
    "qffs_if": Plot(current=currents(0, 0.15, 0, -0.1, 0.15, 0, -0.2, 0)),
    "neg_if": Plot(current=currents(0, 0.05, 0, 0.15, 0, -0.1, 0, -0.3)),
    "integer_lif": Plot({"decay": 0.5}, GRADED),
    "i_lif": Plot({"levels": 4, "decay": 0.25}, GRADED),
    "ni_lif": Plot({"levels": 4}, 2 * GRADED),
    "ie_lif": Plot({"decay": 0.25}, GRADED),
    "spike_count": Plot({}, GRADED),
    "alif": Plot({"beta": 0.4, "tau_adaptation": 20.0}, currents(0, 1.4, 1.4, 1.4, 1.4, 0, 2, 2), note="β = 0.4"),
    "cuba_lif": Plot({"tau_synapse": 4.0, "tau_membrane": 8.0}, currents(0, 0.04, 0, 0.08, 0, 0.2, 0, -0.04), state=1),
    "clif": Plot(current=currents(0, 0.4, 0, 0.8, 0, 1.2, 0, -0.3)),
    "izhikevich": Plot({"preset": "ch"}, currents(0, 5, 10, 10, 0, 20, 0, -5, steps=400), unit="ms", note="chattering"),
    "hodgkin_huxley": Plot(
        {"substeps": 10},
        currents(0, 3, 0, 10, 10, 0, 30, 0, steps=1200),
        unit="ms",
        units_a_step=0.1,
        note="steps of 0.1 ms",
    ),
    "psn": Plot({"steps": STEPS, "tau": 4.0}, note="started as a LIF without reset"),
    "masked_psn": Plot({"steps": STEPS, "order": 8, "tau": 4.0}, note="order 8, started as a LIF without reset"),
    "sliding_psn": Plot({"order": 8, "tau": 4.0}, note="order 8, started as a LIF without reset"),
    "hd_lif": Plot({"steps": STEPS, "channels": 1}),
    "gain_control": Plot({"tau_gain": 6.0}, currents(0, 1.5, 1.5, 0, 0, 3, 3, 0), note="g is the gain"),
    "gain_lif": Plot({"tau_gain": 6.0}, currents(0, 1.5, 1.5, 0, 0, 3, 3, 0), note="g is the gain"),
    "glif": Plot(current=currents(0, 0.3, 0, 0.6, 0, 1.2, 0, -0.3)),
}


def equations(neuron: type[Neuron]) -> str:
    """The docstring up to its arguments."""
    text = inspect.cleandoc(neuron.__doc__ or "")
    return text.split("\nArgs:")[0].split("\nState:")[0].strip()


@torch.no_grad()
def run(name: str, plot: Plot) -> tuple[Tensor, Tensor | None]:
    """Output, and the drawn state after every step (None where there is none)."""
    torch.manual_seed(0)
    neuron = build({"type": name, **plot.arguments}).double()
    x = plot.current.view(-1, 1, 1)
    if not neuron.streams:
        return neuron(x).flatten(), None
    state, outputs, trace = neuron.initial_state(x[0]), [], []
    for x_t in x:
        s, state = neuron.step(x_t, state)
        outputs.append(s)
        if len(state) > plot.state and state[plot.state].shape == x_t.shape:
            trace.append(state[plot.state])
    drawn = torch.stack(trace).flatten() if trace and name not in ("masked_psn", "sliding_psn") else None
    return torch.stack(outputs).flatten(), drawn


WIDTH, LEFT, PANEL, GAP, GREY = 640, 84, 64, 12, "#8888"


def _text(x: float, y: float, words: str, anchor: str = "end") -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}">{words}</text>'


def _panel(values: Tensor, top: float, label: str, colour: str, stems: bool = False) -> list[str]:
    low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
    span = (high - low) or 1.0

    def y(v: float) -> float:
        return round(top + PANEL * (1 - (v - low) / span), 1)

    xs = [round(LEFT + (WIDTH - LEFT) * (i + 0.5) / len(values), 1) for i in range(len(values))]
    lines = [f'<line x1="{LEFT}" x2="{WIDTH}" y1="{y(0)}" y2="{y(0)}" stroke="{GREY}"/>']
    lines += [_text(LEFT - 34, top + PANEL / 2 + 4, label), _text(LEFT - 4, top + 8, f"{high:.3g}")]
    if high - low > 0:
        lines.append(_text(LEFT - 4, top + PANEL, f"{low:.3g}"))
    if stems:
        path = "".join(f"M{x} {y(0)}V{y(v)}" for x, v in zip(xs, values.tolist(), strict=True) if v)
    else:
        path = "M" + "L".join(f"{x} {y(v)}" for x, v in zip(xs, values.tolist(), strict=True))
    return [*lines, f'<path d="{path}" stroke="{colour}" stroke-width="1.5"/>']


def picture(name: str, plot: Plot, output: Tensor, trace: Tensor | None) -> str:
    """The SVG of a neuron: current, state, output, one above the other."""
    neuron = NEURONS[name]
    panels: list[tuple[Tensor, str, str, bool]] = [(plot.current, "x", "#7a7a7a", False)]
    if trace is not None:
        names: Sequence[str] = build({"type": name, **plot.arguments}).state_names
        panels.append((trace, names[plot.state] if names else "v", "#5e35b1", False))
    panels.append((output, "out", "#e64a19", True))
    height = len(panels) * (PANEL + GAP) + 20
    body: list[str] = []
    for i, (values, label, colour, stems) in enumerate(panels):
        body += _panel(values, 6 + i * (PANEL + GAP), label, colour, stems)
    body.append(_text(WIDTH, height - 4, f"{len(plot.current) * plot.units_a_step:g} {plot.unit}"))
    title = f"{neuron.__name__}: input, {'state and ' if trace is not None else ''}output over time"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{title}">\n'
        f"<style>text{{font:11px sans-serif;fill:#888}}path{{fill:none}}</style>\n" + "\n".join(body) + "\n</svg>\n"
    )


def ours() -> list[str]:
    """The registered neurons of the library itself."""
    return sorted(name for name in NEURONS if NEURONS[name].__module__.startswith("ranvier."))


HEAD = """# Gallery of neurons

Every neuron that a model takes by name, its equations, and what it does with a current (grey), as it comes: the state
that is drawn (violet; after the reset) starts at rest, and the output (orange) is a line a spike, as high as its value.
Written by `scripts/neuron_gallery.py` from the neurons themselves. How to use them is in [neurons and
state](neurons-and-state.md), their arguments are in the [reference](api/neurons.md).
"""


def page() -> str:
    """The text of the page."""
    parts = [HEAD]
    for name in ours():
        plot, neuron = PLOTS.get(name, Plot()), NEURONS[name]
        settings = ", ".join(f"{k}={v!r}" for k, v in plot.arguments.items())
        shown = "; ".join(part for part in (f"`{settings}`" if settings else "", plot.note) if part)
        parts.append(
            f"## {neuron.__name__} (`{name}`)\n\n{equations(neuron)}\n\n"
            f"![{neuron.__name__} driven by a current](assets/neurons/{name}.svg)\n"
            + (f"\nShown with {shown}.\n" if shown else "")
        )
    return "\n".join(parts)


def main() -> int:
    PICTURES.mkdir(parents=True, exist_ok=True)
    for name in ours():
        plot = PLOTS.get(name, Plot())
        (PICTURES / f"{name}.svg").write_text(picture(name, plot, *run(name, plot)), encoding="utf-8")
    for stale in {p.stem for p in PICTURES.glob("*.svg")} - set(ours()):
        (PICTURES / f"{stale}.svg").unlink()
    PAGE.write_text(page(), encoding="utf-8")
    print(f"{len(ours())} neurons in {PAGE.relative_to(DOCS.parent)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
