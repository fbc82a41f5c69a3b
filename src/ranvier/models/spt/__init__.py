"""The Spiking Point Transformer: queue-driven sampling, vector attention, and its published sizes."""

from __future__ import annotations

from ranvier.models.spt import cards  # noqa: F401  (registers)
from ranvier.models.spt.blocks import PointTransition, VectorAttention
from ranvier.models.spt.net import SpikingPointTransformer
from ranvier.models.spt.sampling import queue_rows, subset_size

__all__ = ["PointTransition", "SpikingPointTransformer", "VectorAttention", "queue_rows", "subset_size"]
