"""Ranvier: spiking neural networks on PyTorch.

The public names below are loaded on first use, so that `import ranvier` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ranvier import (
        bench,
        circuits,
        claims,
        data,
        diffusion,
        encode,
        errors,
        infer,
        layers,
        loop,
        measure,
        models,
        neurons,
        ops,
        optim,
        surrogates,
        train,
    )
    from ranvier.errors import RanvierError
    from ranvier.layers import compact_spikes, recompute
    from ranvier.models import create_model, list_models
    from ranvier.packing import Packed, pack
    from ranvier.state import Memory, carry, stream

__version__ = "0.1.0"

_MODULES = (
    "bench", "circuits", "claims", "data", "diffusion", "encode", "errors", "infer", "layers", "loop", "measure",
    "models", "neurons", "ops", "optim", "surrogates", "train",
)  # fmt: skip
_NAMES = {
    "RanvierError": "ranvier.errors",
    "create_model": "ranvier.models",
    "list_models": "ranvier.models",
    "compact_spikes": "ranvier.layers",
    "recompute": "ranvier.layers",
    "Packed": "ranvier.packing",
    "pack": "ranvier.packing",
    "Memory": "ranvier.state",
    "carry": "ranvier.state",
    "stream": "ranvier.state",
}

__all__ = [
    "Memory", "Packed", "RanvierError", "bench", "carry", "circuits", "claims", "compact_spikes",
    "create_model", "data", "diffusion", "encode", "errors", "infer", "layers", "list_models", "loop", "measure",
    "models", "neurons", "ops", "optim", "pack", "recompute", "stream", "surrogates", "train",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"ranvier.{name}")
    if name in _NAMES:
        return getattr(import_module(_NAMES[name]), name)
    raise AttributeError(f"module 'ranvier' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES, *_NAMES})
