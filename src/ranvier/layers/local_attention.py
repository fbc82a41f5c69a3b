"""Attention among every second token, and the convolutional block that stands before it in SGLFormer."""

from __future__ import annotations

import itertools

from torch import Tensor, nn

from ranvier.errors import ArgumentError
from ranvier.layers.attention import Projection
from ranvier.layers.conv import ConvBN
from ranvier.layers.residual import Residual
from ranvier.layers.ssa import Order, SpikingSelfAttention, spike_product
from ranvier.neurons import NeuronFactory


class UnbiasedSSA(SpikingSelfAttention):
    """SSA without a single bias, the global attention (GSSA) of SGLFormer (Zhang et al., Front. Neurosci. 2024)."""

    def synapse(self, dim: int, bias: bool) -> nn.Module:
        return ConvBN(dim, dim, 1, dims=1)


class LocalSSA(UnbiasedSSA):
    """LSSA (Zhang et al., SGLFormer, Front. Neurosci. 2024): SSA within interleaved groups of tokens.

    Tokens whose positions agree modulo `groups` on every axis attend to each other: with 2, every second pixel in both
    directions, so that a group is a dilated grid, not a window. Groups need not be equally large.

    Args:
        dim, num_heads, neuron, residual, attn_threshold, scale, order: as in `SpikingSelfAttention`; no biases.
        groups: g ≥ 1, groups an axis.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        neuron: NeuronFactory,
        residual: Residual = "post",
        attn_threshold: float | None = 0.5,
        scale: float = 0.125,
        order: Order = "auto",
        groups: int = 2,
    ) -> None:
        super().__init__(
            dim, num_heads, neuron, residual, attn_threshold=attn_threshold, scale=scale, order=order
        )  # fmt: skip
        if not isinstance(groups, int) or groups < 1:
            raise ArgumentError(f"groups must be a positive integer, got {groups!r}")
        self.groups = groups

    def mix_grid(self, grid: tuple[int, ...], *projections: Tensor) -> Tensor:
        q, k, v = (self.heads(p).unflatten(4, grid) for p in projections)
        mixed: Tensor | None = None
        for offsets in itertools.product(range(self.groups), repeat=len(grid)):
            group = (..., *(slice(offset, None, self.groups) for offset in offsets))
            if not q[group].numel():
                continue  # fewer tokens on an axis than groups
            own = spike_product(q[group].flatten(4), k[group].flatten(4), v[group].flatten(4), self.order)
            mixed = own.new_empty(q.shape) if mixed is None else mixed
            mixed[group] = own.view_as(q[group])
        assert mixed is not None
        return self.product_neuron((mixed * self.scale).flatten(2, 3).flatten(3))


class LocalBlock(nn.Module):
    """The convolutional branch of SGLFormer: `u = x + LIF(BN(DW x))`, then `u + LIF(BN(W₂ LIF(BN(DW LIF(BN(W₁ u))))))`.

    DW are depth-wise 3×3 convolutions, W₁ and W₂ point-wise ones (D to 4D and back), all without biases (Zhang et al.,
    2024). The block adds this branch to x once more, so that x counts twice.

    Args:
        dim: width D.
        neuron: factory of the four neurons.
        expansion: hidden width over D.
    """

    def __init__(self, dim: int, neuron: NeuronFactory, expansion: int = 4) -> None:
        super().__init__()
        hidden = dim * expansion
        self.depthwise = Projection(ConvBN(dim, dim, groups=dim), neuron(channels=dim))
        self.expand = Projection(ConvBN(dim, hidden, 1), neuron(channels=hidden))
        self.inner = Projection(ConvBN(hidden, hidden, groups=hidden), neuron(channels=hidden))
        self.contract = Projection(ConvBN(hidden, dim, 1), neuron(channels=dim))

    def forward(self, x: Tensor) -> Tensor:
        u = x + self.depthwise(x)
        return u + self.contract(self.inner(self.expand(u)))
