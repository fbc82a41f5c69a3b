"""Spiking self-attention (SSA): softmax-free products of spikes."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from ranvier.errors import ArgumentError
from ranvier.layers.attention import SpikingAttention, wide, without_autocast
from ranvier.layers.residual import Residual
from ranvier.neurons import NeuronFactory

Order = Literal["auto", "qk_v", "q_kv"]


def check_order(order: str) -> None:
    """Raise `ArgumentError` unless `order` names an order of the product."""
    if order not in ("auto", "qk_v", "q_kv"):
        raise ArgumentError(f"order must be 'auto', 'qk_v' or 'q_kv', got {order!r}")


def spike_product(q: Tensor, k: Tensor, v: Tensor, order: Order = "auto") -> Tensor:
    """`Q Kᵀ V` per head, each `[..., d, N]` (channels before tokens), in at least float32, also under autocast.

    The product has no softmax, so its order is free: "qk_v" makes the N×N map first, "q_kv" the d×d one, "auto" the
    smaller of the two. On spikes both give the same integers, exactly below 2²⁴.
    """
    check_order(order)
    d, n = q.shape[-2:]
    with without_autocast(q.device):
        q, k, v = wide(q), wide(k), wide(v)
        if order == "q_kv" or (order == "auto" and d <= n):
            return (v @ k.mT) @ q
        return v @ (k.mT @ q)


class SpikingSelfAttention(SpikingAttention):
    """SSA (Zhou et al., Spikformer, ICLR 2023, sec. 3.3): `LIF½(Q Kᵀ V · s)` with binary Q, K, V.

    Args:
        dim, num_heads, neuron, residual, qkv_bias, attn_threshold: as in `SpikingAttention`.
        scale: s; with the threshold ½ it is one number, θ/s.
        order: order of the product, see `spike_product`.
        batch_leak: let the neuron after the projection read the flattened [T·B] as its time, so that the membrane
            runs on from one sample into the next, as in the released QKFormer. One sample alone is not affected.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        neuron: NeuronFactory,
        residual: Residual = "post",
        qkv_bias: bool = False,
        attn_threshold: float | None = 0.5,
        scale: float = 0.125,
        order: Order = "auto",
        batch_leak: bool = False,
    ) -> None:
        super().__init__(dim, num_heads, neuron, residual, qkv_bias, attn_threshold)
        if not scale > 0:
            raise ArgumentError(f"scale must be positive, got {scale!r}")
        check_order(order)
        self.scale = scale
        self.order: Order = order
        self.batch_leak = batch_leak

    def mix(self, *projections: Tensor) -> Tensor:
        q, k, v = (self.heads(p) for p in projections)
        product = spike_product(q, k, v, self.order) * self.scale
        return self.product_neuron(product.flatten(2, 3))

    def activate(self, y: Tensor) -> Tensor:
        if not self.batch_leak:
            return super().activate(y)
        return super().activate(y.flatten(0, 1).unsqueeze(1)).view_as(y)
