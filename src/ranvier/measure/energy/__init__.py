"""Energy of one inference in two accountings that are never mixed: `as_built` and `paper`."""

from __future__ import annotations

from ranvier.measure.energy.as_built import as_built
from ranvier.measure.energy.closed import bit_serial_pj, break_even_rate, dense_pj, spiking_pj
from ranvier.measure.energy.estimate import AsBuiltEnergy, EnergyTable, LayerEnergy, PaperEnergy, table
from ranvier.measure.energy.horowitz import BIT_PJ, OpEnergy, op_energy
from ranvier.measure.energy.neuron_ops import NEURON_OPS, NeuronOps
from ranvier.measure.energy.paper import paper, recipe_pj
from ranvier.measure.energy.traffic import LayerLoad, Widths, event_bits, tiled_bits

__all__ = [
    "BIT_PJ", "NEURON_OPS", "AsBuiltEnergy", "EnergyTable", "LayerEnergy", "LayerLoad", "NeuronOps", "OpEnergy",
    "PaperEnergy", "Widths", "as_built", "bit_serial_pj", "break_even_rate", "dense_pj", "event_bits", "op_energy",
    "paper", "recipe_pj", "spiking_pj", "table", "tiled_bits",
]  # fmt: skip
