"""What the spiking transformers share beside their layers: argument checks and initialisation."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Literal

from torch import nn

from ranvier.errors import ArgumentError
from ranvier.layers import (
    ATTENTIONS,
    ChannelMLP,
    ExpertsMLP,
    IdentityMixer,
    MixerBlock,
    TransformerBlock,
    build_attention,
    freeze_queries,
)
from ranvier.layers.residual import Residual
from ranvier.layers.value_only import Freeze
from ranvier.neurons import NeuronFactory

MLP = Literal["mlp", "emsp"]


def check_transformer(embed_dim: int, depth: int, num_heads: int) -> None:
    """Raise `ArgumentError` unless the sizes are positive and the heads divide the width."""
    for name, value in (("embed_dim", embed_dim), ("depth", depth), ("num_heads", num_heads)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ArgumentError(f"{name} must be a positive integer, got {value!r}")
    if embed_dim % num_heads:
        raise ArgumentError(f"num_heads must divide embed_dim {embed_dim}, got {num_heads}")


def hidden_width(dim: int, mlp_ratio: float) -> int:
    """Hidden width of an MLP, rounded down as the originals do."""
    hidden = int(dim * mlp_ratio) if mlp_ratio > 0 else 0
    if hidden < 1:
        raise ArgumentError(f"mlp_ratio must be positive and leave at least one hidden channel, got {mlp_ratio!r}")
    return hidden


def truncated_normal(module: nn.Module, std: float) -> None:
    """Draw every linear and convolutional weight in `module` from N(0, std²) cut at ±2; biases become zero."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d):
            nn.init.trunc_normal_(layer.weight, std=std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def mixing_block(
    dim: int,
    num_heads: int,
    hidden: int,
    neuron: NeuronFactory,
    residual: Residual,
    attention: str,
    defaults: Mapping[str, Any],
    options: Mapping[str, Any] | None = None,
    mlp: MLP = "mlp",
    freeze_qk: Freeze | None = None,
    inner_shortcut: bool = True,
) -> nn.Module:
    """A transformer block whose attention, MLP and training of queries and keys are configuration.

    Args:
        dim, num_heads, hidden, neuron, residual: widths, heads and neurons.
        attention: a name of `ranvier.layers.ATTENTIONS`, or "none" for a block without the branch.
        defaults: arguments that the model offers; an attention that does not know one goes without it.
        options: arguments for this attention on top of them; an unknown one is an error.
        mlp: "mlp", or "emsp" for the experts' one.
        freeze_qk: leave queries and keys untrained, see `ranvier.layers.freeze_queries`.
        inner_shortcut: whether an MLP of width `dim` on membranes has its second shortcut, see `ChannelMLP`.
    """
    if mlp not in ("mlp", "emsp"):
        raise ArgumentError(f"mlp must be 'mlp' or 'emsp', got {mlp!r}")
    if mlp == "mlp":
        inner = inner_shortcut and residual == "membrane" and hidden == dim
        branch: nn.Module = ChannelMLP(dim, hidden, neuron, residual, inner_shortcut=inner)
    else:
        branch = ExpertsMLP(dim, hidden, neuron, residual)
    if attention == "none":
        if options or freeze_qk is not None:
            raise ArgumentError("attention='none' has neither attention_options nor queries and keys to freeze")
        return MixerBlock(IdentityMixer(), branch)
    known = inspect.signature(ATTENTIONS[attention]).parameters
    arguments = {key: value for key, value in defaults.items() if key in known}
    mixer = build_attention(
        attention, dim, num_heads, neuron, **{"residual": residual, **arguments, **(options or {})}
    )  # fmt: skip
    if freeze_qk is not None:
        freeze_queries(mixer, freeze_qk)
    return TransformerBlock(mixer, branch)
