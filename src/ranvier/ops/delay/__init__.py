"""Synapses with delays: their kernels over time, and the sum over delayed inputs in every form that pays somewhere."""

from __future__ import annotations

from ranvier.ops.delay.bump import bump_taps
from ranvier.ops.delay.convolve import convolve
from ranvier.ops.delay.reference import (
    GAUSS_OFFSET,
    INTERPOLATIONS,
    MAX_OFFSET,
    Interpolation,
    bump_kernel_reference,
    delayed_sum_reference,
    rounded,
)
from ranvier.ops.delay.synapses import Synapses, gather, scatter, tabulated

__all__ = [
    "GAUSS_OFFSET", "INTERPOLATIONS", "MAX_OFFSET", "Interpolation", "Synapses", "bump_kernel_reference", "bump_taps",
    "convolve", "delayed_sum_reference", "gather", "rounded", "scatter", "tabulated",
]  # fmt: skip
