"""Spike-driven self-attention, third form (SDSA-3), and its softmax twin for teachers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ranvier.layers.attention import wide
from ranvier.layers.rep_conv import RepConvBN
from ranvier.layers.residual import Residual
from ranvier.layers.ssa import Order, SpikingSelfAttention
from ranvier.neurons import NeuronFactory


class SDSA3(SpikingSelfAttention):
    """SDSA-3 (Yao et al., Meta-SpikeFormer, ICLR 2024): `LIF½(Q (Kᵀ V) s)` with re-parameterised convolutions as
    projections, on `[T, B, C, H, W]` (or `[T, B, C, N]` with `dims=1`).

    Args:
        dim, num_heads, neuron, residual, attn_threshold, order: as in `SpikingSelfAttention`.
        scale: s, 0.125 in Meta-SpikeFormer and 0.25 in QSD-Transformer, whatever the width of a head.
        dims: 2 for images, 1 for sequences.
    """

    on_grid = True

    def __init__(
        self,
        dim: int,
        num_heads: int,
        neuron: NeuronFactory,
        residual: Residual = "membrane",
        attn_threshold: float | None = 0.5,
        scale: float = 0.125,
        order: Order = "auto",
        dims: int = 2,
    ) -> None:
        self.dims = dims
        super().__init__(dim, num_heads, neuron, residual, False, attn_threshold, scale, order)

    def synapse(self, dim: int, bias: bool) -> nn.Module:
        return RepConvBN(dim, dims=self.dims)


class SoftmaxAttention(SDSA3):
    """Softmax attention of real-valued projections, `softmax(Qᵀ K/√d) V`, in the macro-architecture of SDSA-3.

    Not spike-driven: it is what a float teacher has where its student has spikes. Parameters and shapes of q, k and v
    are those of `SDSA3`, so that the two can be compared tensor by tensor.
    """

    def projection_neuron(self, neuron: NeuronFactory, dim: int) -> nn.Module:
        return nn.Identity()

    def mix(self, *projections: Tensor) -> Tensor:
        q, k, v = (wide(self.heads(p)) for p in projections)
        weights = torch.softmax(k.mT @ q / q.shape[-2] ** 0.5, dim=-2)  # [..., key, query]
        return (v @ weights).flatten(2, 3)
