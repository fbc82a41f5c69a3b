"""Building blocks that models share."""

from __future__ import annotations

from ranvier.layers.conv import ConvBN, ConvBNNeuron, LinearBN
from ranvier.layers.time import over_time

__all__ = ["ConvBN", "ConvBNNeuron", "LinearBN", "over_time"]
