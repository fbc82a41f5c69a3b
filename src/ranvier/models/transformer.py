"""What the spiking transformers share beside their layers: argument checks and initialisation."""

from __future__ import annotations

from torch import nn

from ranvier.errors import ArgumentError


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
