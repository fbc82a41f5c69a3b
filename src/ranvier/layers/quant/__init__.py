"""Quantised weights: learned step sizes, layers, quantisation-aware training, integer export."""

from __future__ import annotations

from ranvier.layers.quant.integer import (
    IntSynapse,
    IntWeights,
    WeightSize,
    export_int,
    fold_bn,
    pack_levels,
    unpack_levels,
    weight_size,
)
from ranvier.layers.quant.lsq import LSQ, level_range
from ranvier.layers.quant.qat import prepare_qat, quantized_layers, restart_steps, set_bits
from ranvier.layers.quant.synapse import QuantConv1d, QuantConv2d, QuantLinear, QuantSynapse

__all__ = [
    "LSQ", "IntSynapse", "IntWeights", "QuantConv1d", "QuantConv2d", "QuantLinear", "QuantSynapse", "WeightSize",
    "export_int", "fold_bn", "level_range", "pack_levels", "prepare_qat", "quantized_layers", "restart_steps",
    "set_bits", "unpack_levels", "weight_size",
]  # fmt: skip
