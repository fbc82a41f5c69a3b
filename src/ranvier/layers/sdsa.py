"""Spike-driven self-attention, first form (SDSA-1): a mask and a column sum instead of products."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ranvier.layers.attention import SpikingAttention, wide
from ranvier.layers.residual import Residual
from ranvier.layers.time import over_time
from ranvier.neurons import NeuronFactory


class SpikeDrivenAttention(SpikingAttention):
    """SDSA-1 (Yao et al., Spike-driven Transformer, NeurIPS 2023): `Q ⊙ LIF½(Σ_tokens K ⊙ V)`.

    Only masks and additions. Heads have no influence, except through the erosion.

    Args:
        dim, num_heads, neuron, residual, qkv_bias, attn_threshold: as in `SpikingAttention`.
        erode: a 3×3 max-pool with stride 1 on K, V, their product and the output, as released for CIFAR10-DVS. There
            the pool of the product and of the output runs over the plane of (token index, channel of the head).
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        neuron: NeuronFactory,
        residual: Residual = "membrane",
        qkv_bias: bool = False,
        attn_threshold: float | None = 0.5,
        erode: bool = False,
    ) -> None:
        super().__init__(dim, num_heads, neuron, residual, qkv_bias, attn_threshold)
        self.erode = erode

    def mix_grid(self, grid: tuple[int, ...], *projections: Tensor) -> Tensor:
        q, k, v = projections
        if self.erode:
            k, v = (over_time(_max3x3, x.unflatten(3, grid)).flatten(3) for x in (k, v))
        kv = k * v
        if self.erode:
            kv = self._erode_tokens(kv)
        kv = kv.sum(-1, dtype=wide(kv).dtype)
        mask = self.product_neuron(kv).to(q.dtype)
        y = q * mask.unsqueeze(-1)
        return self._erode_tokens(y) if self.erode else y

    def mix(self, *projections: Tensor) -> Tensor:
        return self.mix_grid((1, projections[0].shape[-1]), *projections)

    def _erode_tokens(self, x: Tensor) -> Tensor:
        return over_time(_max3x3, self.heads(x)).flatten(2, 3)


def _max3x3(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, stride=1, padding=1)
