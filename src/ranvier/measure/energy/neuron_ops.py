"""Arithmetic of one neuron for one step, by class."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class NeuronOps:
    """Multiplications, additions and comparisons a neuron and step; a spike costs one more addition, the reset."""

    mul: int
    add: int
    compare: int


NEURON_OPS: dict[str, NeuronOps] = {
    "IF": NeuronOps(0, 1, 1),
    "LIF": NeuronOps(1, 2, 1),
    "PLIF": NeuronOps(1, 2, 1),
    "KLIF": NeuronOps(2, 2, 1),
    "CLIF": NeuronOps(2, 3, 1),
    "GLIF": NeuronOps(4, 5, 1),
    "EIF": NeuronOps(2, 4, 1),
    "Izhikevich": NeuronOps(4, 7, 1),
    "IntegerLIF": NeuronOps(2, 2, 1),  # the leak and the scale of the input, charge and rounding, clamp
}
"""Counted from the equations; exponentials and sigmoids are not priced."""


def neuron_ops(name: str) -> tuple[NeuronOps, bool]:
    """The operations of a neuron class, and whether they are known (else those of LIF)."""
    known = NEURON_OPS.get(name)
    return (known, True) if known else (NEURON_OPS["LIF"], False)
