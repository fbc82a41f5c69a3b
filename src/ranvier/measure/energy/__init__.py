"""Energy of one inference by models that never mix: as built, a paper's recipe, Lemaire 2022, a quantised twin."""

from __future__ import annotations

from ranvier.measure.energy.as_built import as_built
from ranvier.measure.energy.bit_serial import bit_serial
from ranvier.measure.energy.closed import bit_serial_pj, break_even_rate, dense_pj, spiking_pj
from ranvier.measure.energy.estimate import (
    AsBuiltEnergy,
    BitSerialEnergy,
    EnergyTable,
    Estimate,
    LayerEnergy,
    LemaireEnergy,
    PaperEnergy,
    table,
)
from ranvier.measure.energy.horowitz import BIT_PJ, OpEnergy, op_energy
from ranvier.measure.energy.lemaire import MEMORY_LAWS, Layer, dense_layer_pj, lemaire2022, spiking_layer_pj
from ranvier.measure.energy.models import ENERGY_MODEL_TITLES, ENERGY_MODELS, all_models
from ranvier.measure.energy.neuron_ops import NEURON_OPS, NeuronOps
from ranvier.measure.energy.paper import paper, recipe_pj
from ranvier.measure.energy.traffic import LayerLoad, Widths, event_bits, tiled_bits

__all__ = [
    "BIT_PJ", "ENERGY_MODELS", "ENERGY_MODEL_TITLES", "MEMORY_LAWS", "NEURON_OPS", "AsBuiltEnergy", "BitSerialEnergy",
    "EnergyTable", "Estimate", "Layer", "LayerEnergy", "LayerLoad", "LemaireEnergy", "NeuronOps", "OpEnergy",
    "PaperEnergy", "Widths", "all_models", "as_built", "bit_serial", "bit_serial_pj", "break_even_rate",
    "dense_layer_pj", "dense_pj", "event_bits", "lemaire2022", "op_energy", "paper", "recipe_pj", "spiking_layer_pj",
    "spiking_pj", "table", "tiled_bits",
]  # fmt: skip
