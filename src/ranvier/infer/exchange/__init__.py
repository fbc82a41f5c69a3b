"""Exchange formats: NIR both ways, ONNX and `torch.export` out."""

from __future__ import annotations

from ranvier.infer.exchange.nir_net import NirNet
from ranvier.infer.exchange.nir_read import from_nir
from ranvier.infer.exchange.nir_write import to_nir, write_nir
from ranvier.infer.exchange.runtimes import Exported, export_onnx, export_torch

__all__ = ["Exported", "NirNet", "export_onnx", "export_torch", "from_nir", "to_nir", "write_nir"]
