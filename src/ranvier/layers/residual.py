"""Where a residual branch puts its neurons, and the block of a spiking transformer that follows from it."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError

# "post": x + neuron(BN(f(x))), the sum of spikes is an integer (SEW-ResNet, Spikformer, QKFormer).
# "membrane": x + BN(f(neuron(x))), every synaptic layer sees spikes (MS-ResNet, Spike-driven Transformer).
Residual = Literal["post", "membrane"]


def check_residual(residual: str) -> None:
    """Raise `ArgumentError` unless `residual` is "post" or "membrane"."""
    if residual not in ("post", "membrane"):
        raise ArgumentError(f"residual must be 'post' or 'membrane', got {residual!r}")


class LayerScale(nn.Module):
    """`γ ⊙ x` with one learned γ a channel of `[T, B, C, ...]` (Touvron et al., CaiT, ICCV 2021).

    Args:
        dim: channels C.
        start: γ at the start; the released QSD-Transformer has 1e-6, which keeps a block silent in short runs.
    """

    no_weight_decay = True

    def __init__(self, dim: int, start: float = 1e-6) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), float(start)))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma.view(-1, *[1] * (x.dim() - 3))


def _layer_scale(start: float | None, dim: int | None) -> LayerScale | None:
    if start is None:
        return None
    if dim is None:
        raise ArgumentError("dim: a layer scale needs the number of channels")
    return LayerScale(dim, start)


class MSResidual(nn.Module):
    """Membrane shortcut `x + γ ⊙ fn(x)`: real values are added in front of the neurons (MS-ResNet, Hu et al., 2021).

    `fn` begins with a neuron, so every synaptic layer sees spikes. `layer_scale` is the start of γ (needs `dim`), None
    for no γ.
    """

    def __init__(self, fn: nn.Module, layer_scale: float | None = None, dim: int | None = None) -> None:
        super().__init__()
        self.fn = fn
        self.scale = _layer_scale(layer_scale, dim)

    def forward(self, x: Tensor) -> Tensor:
        y = self.fn(x)
        return x + (y if self.scale is None else self.scale(y))


class SEWResidual(nn.Module):
    """Spike-element-wise shortcut `g(fn(x), x)` of two spike tensors (Fang et al., SEW-ResNet, NeurIPS 2021, table 1).

    `op` is "ADD" (s + x, no longer binary), "AND" (s x) or "IAND" ((1 − s) x); `fn` ends in a neuron.
    """

    def __init__(self, fn: nn.Module, op: Literal["ADD", "AND", "IAND"] = "ADD") -> None:
        super().__init__()
        if op not in ("ADD", "AND", "IAND"):
            raise ArgumentError(f"op must be 'ADD', 'AND' or 'IAND', got {op!r}")
        self.fn = fn
        self.op = op

    def forward(self, x: Tensor) -> Tensor:
        s = self.fn(x)
        if self.op == "ADD":
            return s + x
        return s * x if self.op == "AND" else (1 - s) * x


class VanillaResidual(nn.Module):
    """The ResNet shortcut with a neuron in place of the ReLU: `neuron(fn(x) + x)`, spikes in and out (Spiking ResNet).

    `fn` ends without a neuron; a spike and a membrane are added.
    """

    def __init__(self, fn: nn.Module, neuron: nn.Module) -> None:
        super().__init__()
        self.fn = fn
        self.neuron = neuron

    def forward(self, x: Tensor) -> Tensor:
        return self.neuron(self.fn(x) + x)


class TransformerBlock(nn.Module):
    """`x ← x + γ₁ ⊙ attention(x)`, then `x ← x + γ₂ ⊙ mlp(x)`, on `[T, B, C, H, W]`.

    The placement of the neurons belongs to the two branches (`residual="post"` or `"membrane"`).

    Args:
        attention, mlp: the branches.
        layer_scale: start of γ₁ and γ₂ (one number a channel; needs `dim`), None for a block without them.
        dim: width C.
    """

    def __init__(
        self, attention: nn.Module, mlp: nn.Module, layer_scale: float | None = None, dim: int | None = None
    ) -> None:
        super().__init__()
        self.attention = attention
        self.scale1 = _layer_scale(layer_scale, dim)
        self.mlp = mlp
        self.scale2 = _layer_scale(layer_scale, dim)

    def forward(self, x: Tensor) -> Tensor:
        y = self.attention(x)
        x = x + (y if self.scale1 is None else self.scale1(y))
        y = self.mlp(x)
        return x + (y if self.scale2 is None else self.scale2(y))


class MixerBlock(nn.Module):
    """`x ← mixer(x)`, then `x ← x + mlp(x)`: for token mixers that bring their own shortcut, or have none."""

    def __init__(self, mixer: nn.Module, mlp: nn.Module) -> None:
        super().__init__()
        self.mixer = mixer
        self.mlp = mlp

    def forward(self, x: Tensor) -> Tensor:
        x = self.mixer(x)
        return x + self.mlp(x)
