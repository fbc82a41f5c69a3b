"""Encoders: a static image in [0, 1] becomes a spike sequence `[T, B, ...]`; sound becomes spike trains (`Cochlea`)."""

from __future__ import annotations

from ranvier.encode.cochlea import Cochlea, SpikeTrain
from ranvier.encode.deterministic_rate import DeterministicRate
from ranvier.encode.direct import Direct
from ranvier.encode.encoder import ENCODERS, Encoder, build
from ranvier.encode.event_cloud import EventCloudGrouper
from ranvier.encode.phase import Phase
from ranvier.encode.rate import Rate
from ranvier.encode.ttfs import TTFS

__all__ = [
    "ENCODERS", "TTFS", "Cochlea", "DeterministicRate", "Direct", "Encoder", "EventCloudGrouper", "Phase", "Rate",
    "SpikeTrain", "build",
]  # fmt: skip
