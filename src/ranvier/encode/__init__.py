"""Encoders: a static image in [0, 1] becomes a spike sequence `[T, B, ...]`."""

from __future__ import annotations

from ranvier.encode.direct import Direct
from ranvier.encode.encoder import ENCODERS, Encoder, build
from ranvier.encode.phase import Phase
from ranvier.encode.rate import Rate
from ranvier.encode.ttfs import TTFS

__all__ = ["ENCODERS", "TTFS", "Direct", "Encoder", "Phase", "Rate", "build"]
