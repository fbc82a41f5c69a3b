"""SpikePoint: event clouds classified by a single-stage spiking point net (Ren et al., ICLR 2024)."""

from __future__ import annotations

from ranvier.models.spikepoint import cards  # noqa: F401  (registers)
from ranvier.models.spikepoint.blocks import CodeLookup, LinearNorm, ResF
from ranvier.models.spikepoint.extractors import GlobalExtractor, LocalExtractor
from ranvier.models.spikepoint.net import SpikePoint

__all__ = ["CodeLookup", "GlobalExtractor", "LinearNorm", "LocalExtractor", "ResF", "SpikePoint"]
