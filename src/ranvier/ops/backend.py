"""Which implementation of an op runs: `RANVIER_BACKEND=reference|auto` (default auto)."""

from __future__ import annotations

import os
from functools import cache
from importlib.util import find_spec

from ranvier.errors import ConfigError

BACKENDS = ("auto", "reference")


def use_kernels(device_type: str) -> bool:
    """Whether fused kernels serve tensors on this kind of device; otherwise the plain-torch reference runs."""
    choice = os.environ.get("RANVIER_BACKEND", "auto")
    if choice not in BACKENDS:
        raise ConfigError(f"RANVIER_BACKEND must be one of {', '.join(BACKENDS)}, got {choice!r}")
    if choice == "reference":
        return False
    return device_type == "cpu" or (device_type == "cuda" and _has_triton())


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None
