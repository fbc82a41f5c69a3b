"""Arithmetic of one neuron for one step, by class."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class NeuronOps:
    """Multiplications, additions and comparisons a neuron and step; a spike costs one more addition, the reset.

    `over_time` says that the multiplications and additions are made for each of the T steps that a step looks at.
    """

    mul: int
    add: int
    compare: int
    over_time: bool = False


NEURON_OPS: dict[str, NeuronOps] = {
    "IF": NeuronOps(0, 1, 1),
    "LIF": NeuronOps(1, 2, 1),
    "PLIF": NeuronOps(1, 2, 1),
    "KLIF": NeuronOps(2, 2, 1),
    "CLIF": NeuronOps(2, 3, 1),
    "GLIF": NeuronOps(4, 5, 1),
    "EIF": NeuronOps(2, 4, 1),
    "Izhikevich": NeuronOps(4, 7, 1),
    "PSN": NeuronOps(1, 1, 1, over_time=True),
    "IntegerLIF": NeuronOps(2, 2, 1),  # the leak and the scale of the input, charge and rounding, clamp
}
"""Counted from the equations; exponentials and sigmoids are not priced."""


def priced_as(neuron: type) -> str | None:
    """The entry of `NEURON_OPS` for a class: its own (or what it `stands_for`), or that of the nearest class it derives
    from."""
    if (name := getattr(neuron, "stands_for", None)) in NEURON_OPS:
        return name
    return next((cls.__name__ for cls in neuron.__mro__ if cls.__name__ in NEURON_OPS), None)
