"""Trained nets as they are deployed: binary virtual steps instead of counts, verified against the original."""

from __future__ import annotations

from ranvier.infer.ann_artifact import ann_conversion_notes, load_ann_conversion, save_ann_conversion
from ranvier.infer.artifact import load_converted, save_converted
from ranvier.infer.convert import Conversion, convert, spike_mode
from ranvier.infer.convert_ann import AnnConversion, ConvertedNet, NotConvertibleError, convert_ann
from ranvier.infer.counts import Counts
from ranvier.infer.early_exit import DynamicConfidence, EarlyExitRunner
from ranvier.infer.engine import Engine, NotCompilableError, compile, export_c
from ranvier.infer.exchange import Exported, NirNet, export_onnx, export_torch, from_nir, to_nir, write_nir
from ranvier.infer.plan import Plan
from ranvier.infer.slots import bin_sum, expand
from ranvier.infer.spike_synapse import SpikeSynapse, requantize
from ranvier.infer.verify import Equivalence, verify_equivalence

__all__ = [
    "AnnConversion", "Conversion", "ConvertedNet", "Counts", "DynamicConfidence", "EarlyExitRunner", "Engine",
    "Equivalence", "Exported", "NirNet", "NotCompilableError", "NotConvertibleError", "Plan", "SpikeSynapse",
    "ann_conversion_notes", "bin_sum", "compile", "convert", "convert_ann", "expand", "export_c", "export_onnx",
    "export_torch", "from_nir", "load_ann_conversion", "load_converted", "requantize", "save_ann_conversion",
    "save_converted", "spike_mode", "to_nir", "verify_equivalence", "write_nir",
]  # fmt: skip
