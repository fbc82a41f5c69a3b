"""Where a residual branch puts its neurons, and the block of a spiking transformer that follows from it."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from ranvier.errors import ArgumentError

# "post": x + neuron(BN(f(x))), the sum of spikes is an integer (SEW-ResNet, Spikformer, QKFormer).
# "membrane": x + BN(f(neuron(x))), every synaptic layer sees spikes (MS-ResNet, Spike-driven Transformer).
Residual = Literal["post", "membrane"]


def check_residual(residual: str) -> None:
    """Raise `ArgumentError` unless `residual` is "post" or "membrane"."""
    if residual not in ("post", "membrane"):
        raise ArgumentError(f"residual must be 'post' or 'membrane', got {residual!r}")


class TransformerBlock(nn.Module):
    """`x ← x + attention(x)`, then `x ← x + mlp(x)`, on `[T, B, C, H, W]`.

    The placement of the neurons belongs to the two branches (`residual="post"` or `"membrane"`).
    """

    def __init__(self, attention: nn.Module, mlp: nn.Module) -> None:
        super().__init__()
        self.attention = attention
        self.mlp = mlp

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(x)
        return x + self.mlp(x)
