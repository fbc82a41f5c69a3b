"""Building blocks that models share."""

from __future__ import annotations

from ranvier.layers.attention import SpikingAttention, product_neuron
from ranvier.layers.channel_mlp import ChannelMLP
from ranvier.layers.conv import ConvBN, ConvBNNeuron, LinearBN
from ranvier.layers.deformed_shortcut import DeformedShortcut
from ranvier.layers.patch_stem import PatchStem, halving_pool, pools_for
from ranvier.layers.qk_attention import QKChannelAttention, QKTokenAttention
from ranvier.layers.residual import Residual, TransformerBlock
from ranvier.layers.sdsa import SpikeDrivenAttention
from ranvier.layers.ssa import Order, SpikingSelfAttention, spike_product
from ranvier.layers.time import over_time

__all__ = [
    "ChannelMLP", "ConvBN", "ConvBNNeuron", "DeformedShortcut", "LinearBN", "Order", "PatchStem", "QKChannelAttention",
    "QKTokenAttention", "Residual", "SpikeDrivenAttention", "SpikingAttention", "SpikingSelfAttention",
    "TransformerBlock", "halving_pool", "over_time", "pools_for", "product_neuron", "spike_product",
]  # fmt: skip
