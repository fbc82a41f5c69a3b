"""Spiking experts instead of heads (SEMM): experts mixture attention and experts mixture perceptron."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from ranvier.errors import ArgumentError
from ranvier.layers.attention import SpikingAttention
from ranvier.layers.conv import ConvBN
from ranvier.layers.residual import Residual, check_residual
from ranvier.layers.ssa import Order, check_order, spike_product
from ranvier.neurons import NeuronFactory


class ExpertsAttention(SpikingAttention):
    """EMSA (Zhou et al., Spiking Transformer with Experts Mixture, NeurIPS 2024): `Σ_i r_i ⊙ LIF(s·(Q_i Kᵀ) V)`.

    m experts have queries of their own, of width e, and share the keys (width e) and the values (width C). The router r
    is a neuron behind a projection to m channels, so that any number of experts, none included, may be active for a
    token at a step; their sum is an integer 0..m.

    Args:
        dim, neuron, residual: as in `SpikingAttention`.
        num_heads: not used (the experts take the place of the heads); kept so that all attentions are built alike.
        qkv_bias: biases of queries, keys and values; the router and the last projection always have them.
        attn_threshold: threshold of the experts' neurons, None for the factory's own.
        experts: m.
        expert_dim: e, None for a quarter of the width.
        mode: "base", or "small" with values of width e.
        scale, order: of the product, as in `SpikingSelfAttention`.
    """

    names = ("q", "k", "v", "router")

    def __init__(
        self,
        dim: int,
        num_heads: int,
        neuron: NeuronFactory,
        residual: Residual = "post",
        qkv_bias: bool = True,
        attn_threshold: float | None = None,
        experts: int = 4,
        expert_dim: int | None = None,
        mode: Literal["base", "small"] = "base",
        scale: float = 0.125,
        order: Order = "auto",
    ) -> None:
        if not isinstance(experts, int) or experts < 1:
            raise ArgumentError(f"experts must be a positive integer, got {experts!r}")
        if mode not in ("base", "small"):
            raise ArgumentError(f"mode must be 'base' or 'small', got {mode!r}")
        width = max(1, dim // 4) if expert_dim is None else expert_dim
        if not isinstance(width, int) or width < 1:
            raise ArgumentError(f"expert_dim must be a positive integer or None, got {expert_dim!r}")
        if not scale > 0:
            raise ArgumentError(f"scale must be positive, got {scale!r}")
        check_order(order)
        widths = {"q": experts * width, "k": width, "v": dim if mode == "base" else width, "router": experts}
        self._widths = widths  # what the frame asks for while it is built
        super().__init__(dim, num_heads, neuron, residual, qkv_bias, attn_threshold)
        self.experts, self.scale = experts, scale
        self.order: Order = order

    def width(self, name: str) -> int:
        return self._widths[name]

    def projection(self, name: str, bias: bool) -> nn.Module:
        return ConvBN(self.dim, self.width(name), 1, bias=bias or name == "router", dims=1)

    def merge(self) -> nn.Module:
        return ConvBN(self.width("v"), self.dim, 1, bias=True, dims=1)

    def product_channels(self) -> int:
        return self._widths["router"]

    def mix(self, *projections: Tensor) -> Tensor:
        q, k, v, router = projections
        queries = q.unflatten(2, (self.experts, -1))
        product = spike_product(queries, k.unsqueeze(2), v.unsqueeze(2), self.order) * self.scale
        answers = self.product_neuron(product)
        return (router.unsqueeze(3).to(answers.dtype) * answers).sum(2)


EMSA = ExpertsAttention
"""The name of the literature."""


class ExpertsMLP(nn.Module):
    """EMSP (Zhou et al., NeurIPS 2024): one half of the hidden spikes, mixed in space, gates the other.

    `h₁, h₂ = LIF(BN(W₁ x))`, `g = LIF(BN(DWConv 3×3 h₁))`, then `LIF(BN(W₂ (g ⊙ h₂)))`; "membrane" begins with a neuron
    instead of ending in one. Branch of a block, on `[T, B, C, H, W]`.

    Args:
        dim, hidden: widths C and of the hidden layer (even).
        neuron: factory of the neurons.
        residual: "post" or "membrane".
        gate_bias: bias of the depth-wise convolution.
    """

    def __init__(
        self, dim: int, hidden: int, neuron: NeuronFactory, residual: Residual = "post", gate_bias: bool = False
    ) -> None:
        super().__init__()
        check_residual(residual)
        if hidden % 2:
            raise ArgumentError(f"hidden must be even, for it is split in halves, got {hidden!r}")
        half = hidden // 2
        self.before = neuron(channels=dim) if residual == "membrane" else None
        self.fc1 = ConvBN(dim, hidden, 1, bias=True, dims=1)
        self.neuron1 = neuron(channels=hidden)
        self.gate = ConvBN(half, half, 3, groups=half, bias=gate_bias)
        self.gate_neuron = neuron(channels=half)
        self.fc2 = ConvBN(half, dim, 1, bias=True, dims=1)
        self.neuron2 = neuron(channels=dim) if residual == "post" else None

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(3)
        if self.before is not None:
            tokens = self.before(tokens)
        first, second = self.neuron1(self.fc1(tokens)).chunk(2, 2)
        gate = self.gate_neuron(self.gate(first.unflatten(3, x.shape[3:]))).flatten(3)
        y = self.fc2(gate * second)
        return (y if self.neuron2 is None else self.neuron2(y)).view_as(x)


EMSP = ExpertsMLP
"""The name of the literature."""
