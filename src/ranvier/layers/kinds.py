"""Attention by name, so that an ablation grid is configuration."""

from __future__ import annotations

from typing import Any

from ranvier.layers.attention import SpikingAttention
from ranvier.layers.dssa import DSSA
from ranvier.layers.emsa import ExpertsAttention
from ranvier.layers.local_attention import LocalSSA
from ranvier.layers.qk_attention import QKChannelAttention, QKTokenAttention
from ranvier.layers.sdsa import SpikeDrivenAttention
from ranvier.layers.sdsa3 import SDSA3, SoftmaxAttention
from ranvier.layers.ssa import SpikingSelfAttention
from ranvier.layers.statten import SpatioTemporalAttention
from ranvier.layers.temporal_interaction import TemporalAttention
from ranvier.layers.value_only import ValueOnly
from ranvier.neurons import NeuronFactory
from ranvier.registry import Registry, check_keywords

ATTENTIONS: Registry[type[SpikingAttention]] = Registry("attention")
ATTENTIONS.register("ssa")(SpikingSelfAttention)
ATTENTIONS.register("sdsa1")(SpikeDrivenAttention)
ATTENTIONS.register("sdsa3")(SDSA3)
ATTENTIONS.register("softmax")(SoftmaxAttention)
ATTENTIONS.register("qk_token")(QKTokenAttention)
ATTENTIONS.register("qk_channel")(QKChannelAttention)
ATTENTIONS.register("lssa")(LocalSSA)
ATTENTIONS.register("dssa")(DSSA)
ATTENTIONS.register("emsa")(ExpertsAttention)
ATTENTIONS.register("tim")(TemporalAttention)
ATTENTIONS.register("statten")(SpatioTemporalAttention)
ATTENTIONS.register("v_only")(ValueOnly)


def build_attention(kind: str, dim: int, num_heads: int, neuron: NeuronFactory, **options: Any) -> SpikingAttention:
    """The attention branch `kind`; `options` are arguments of its class.

    Raises `UnknownNameError` for an unknown kind and `ArgumentError` for an option that it does not take.
    """
    made = ATTENTIONS[kind]
    check_keywords(made, options, f"attention {kind!r}")
    return made(dim, num_heads, neuron, **options)
