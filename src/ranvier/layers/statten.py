"""Attention over blocks of time and space (STAtten)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ranvier.errors import ArgumentError, StateError
from ranvier.layers.attention import SpikingAttention
from ranvier.layers.residual import Residual
from ranvier.layers.ssa import Order, check_order, spike_product
from ranvier.layers.time import over_time
from ranvier.neurons import NeuronFactory
from ranvier.state import Stateful


class SpatioTemporalAttention(SpikingAttention, Stateful):
    """STAtten (Lee et al., CVPR 2025): `LIF½(Q (Kᵀ V) s)` over the tokens of `chunk` steps together.

    A step sees the later ones of its chunk, so the latency of a stream is `chunk` steps: inside `ranvier.carry` only
    the last call may end within a chunk (`StateError` in the next). A last chunk may be shorter.

    Args:
        dim, num_heads, neuron, residual, qkv_bias, attn_threshold: as in `SpikingAttention`.
        chunk: steps a chunk.
        scale: s; None for 1/H with H the height of the token grid, with `events` 1/(H² chunk), as published.
        events: the form for event data: a 3×3 max-pool with stride 1 on Q, K, V and on the input spikes x̃, and
            `y ⊙ x̃ + x̃` in front of the last projection (0, 1 or 2).
        order: order of the product, see `spike_product`.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        neuron: NeuronFactory,
        residual: Residual = "membrane",
        qkv_bias: bool = False,
        attn_threshold: float | None = 0.5,
        chunk: int = 2,
        scale: float | None = None,
        events: bool = False,
        order: Order = "auto",
    ) -> None:
        super().__init__(dim, num_heads, neuron, residual, qkv_bias, attn_threshold)
        if not isinstance(chunk, int) or chunk < 1:
            raise ArgumentError(f"chunk must be a positive number of steps, got {chunk!r}")
        if scale is not None and not scale > 0:
            raise ArgumentError(f"scale must be positive or None, got {scale!r}")
        check_order(order)
        self.chunk, self.scale, self.events = chunk, scale, events
        self.order: Order = order

    def forward(self, x: Tensor) -> Tensor:
        state = self.recall()
        if state is not None and bool(state[0].any()):
            raise StateError(
                f"STAtten looks at {self.chunk} steps at once, and the stream was last cut inside such a chunk; bring "
                f"multiples of {self.chunk} steps"
            )
        self.remember((x.new_full(x.shape[1:2], x.shape[0] % self.chunk),))
        return super().forward(x)

    def mix_grid(self, grid: tuple[int, ...], *projections: Tensor) -> Tensor:
        if self.events:
            projections = tuple(_max3x3(p, grid) for p in projections)
        scale = self.scale
        if scale is None:
            scale = 1 / (grid[0] ** 2 * self.chunk) if self.events else 1 / grid[0]
        q, k, v = (self.heads(p) for p in projections)
        steps = q.shape[0]
        whole = steps // self.chunk * self.chunk
        parts = [self._product(q[:whole], k[:whole], v[:whole], self.chunk)] if whole else []
        if whole < steps:
            parts.append(self._product(q[whole:], k[whole:], v[whole:], steps - whole))
        product = parts[0] if len(parts) == 1 else torch.cat(parts)
        return self.product_neuron((product * scale).flatten(2, 3))

    def _product(self, q: Tensor, k: Tensor, v: Tensor, chunk: int) -> Tensor:
        """The product over chunks of exactly `chunk` steps, each argument `[T, B, h, d, N]`."""
        tokens = q.shape[-1]
        q, k, v = (_merged(x, chunk) for x in (q, k, v))
        y = spike_product(q, k, v, self.order)  # [T/chunk, B, h, d, chunk·N]
        return y.unflatten(-1, (chunk, tokens)).movedim(-2, 1).flatten(0, 1)

    def pass_on(self, mixed: Tensor, spikes: Tensor, grid: tuple[int, ...]) -> Tensor:
        if not self.events:
            return mixed
        gate = _max3x3(spikes, grid)
        return mixed * gate + gate


def _merged(x: Tensor, chunk: int) -> Tensor:
    """`[T, B, h, d, N]` with the steps of every chunk among its tokens: `[T/chunk, B, h, d, chunk·N]`."""
    return x.unflatten(0, (-1, chunk)).movedim(1, -2).flatten(-2)


def _max3x3(x: Tensor, grid: tuple[int, ...]) -> Tensor:
    if len(grid) != 2:
        raise ArgumentError(f"events=True needs images [T, B, C, H, W], got tokens on a grid of shape {tuple(grid)}")
    return over_time(lambda y: F.max_pool2d(y, 3, stride=1, padding=1), x.unflatten(3, grid)).flatten(3)


STAtten = SpatioTemporalAttention
"""The name of the literature."""
