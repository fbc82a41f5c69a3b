"""Temporal interaction (TIM): the queries of one step reach the next through a convolution."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError
from ranvier.layers.attention import product_neuron
from ranvier.layers.residual import Residual
from ranvier.layers.ssa import Order, SpikingSelfAttention, spike_product
from ranvier.neurons import NeuronFactory
from ranvier.state import Stateful


class TemporalInteraction(Stateful):
    """`q̂₀ = Q₀`, then `q̂_t = LIF_out(α LIF_in(Conv₅(q̂_{t−1})) + (1 − α) Q_t)` (Shen et al., TIM, IJCAI 2024).

    On `[T, B, h, d, N]`: one convolution over the tokens, from d to d channels, serves all heads and steps.

    Args:
        channels: d.
        neuron: factory of the two neurons.
        alpha: α in [0, 1], the share of the past.
        kernel: length of the convolution, odd.
        thresholds: of LIF_in and LIF_out, None for the factory's own. What enters LIF_out is at most 1, so with a
            threshold of 1 and a leak it never fires.
    """

    def __init__(
        self,
        channels: int,
        neuron: NeuronFactory,
        alpha: float = 0.5,
        kernel: int = 5,
        thresholds: tuple[float, float] | None = (0.3, 0.5),
    ) -> None:
        super().__init__()
        if not 0 <= alpha <= 1:
            raise ArgumentError(f"alpha must be in [0, 1], got {alpha!r}")
        if not isinstance(kernel, int) or kernel < 1 or kernel % 2 == 0:
            raise ArgumentError(f"kernel must be odd and positive, got {kernel!r}")
        self.alpha = alpha
        self.conv = nn.Conv1d(channels, channels, kernel, padding=kernel // 2)
        # Steps of the neurons see [B, h, d, N]; as sequences [T, B, h, d, N] their channels would be on axis 3.
        low, high = (None, None) if thresholds is None else thresholds
        self.neuron_in = product_neuron(neuron, low, channels, 3)
        self.neuron_out = product_neuron(neuron, high, channels, 3)

    def forward(self, q: Tensor) -> Tensor:
        state = self.recall()
        start = (*self.neuron_in.initial_state(q[0]), *self.neuron_out.initial_state(q[0]))
        count = len(self.neuron_in.initial_state(q[0]))
        steps: list[Tensor] = []
        if state is None:
            steps.append(q[0])
            inner, outer = start[:count], start[count:]
        else:
            state = self.fits(state, (q[0], *start))
            steps.append(state[0])
            inner, outer = state[1 : 1 + count], state[1 + count :]
        for now in q[1:] if state is None else q:
            past = self.conv(steps[-1].flatten(0, 1)).view_as(now)
            spikes, inner = self.neuron_in.step(past, inner)
            mixed, outer = self.neuron_out.step(self.alpha * spikes + (1 - self.alpha) * now, outer)
            steps.append(mixed.to(q.dtype))
        self.remember((steps[-1], *inner, *outer))
        return torch.stack(steps if state is None else steps[1:])


class TemporalAttention(SpikingSelfAttention):
    """SSA whose queries pass `TemporalInteraction` (Shen et al., TIM, IJCAI 2024).

    Args:
        dim, num_heads, neuron, residual, qkv_bias, attn_threshold, scale, order: as in `SpikingSelfAttention`. The last
            projection has no bias, as in the release.
        alpha, kernel, thresholds: of the interaction.
        released: compute what the released code computes, see `follow_release`; `load_official` switches this on.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        neuron: NeuronFactory,
        residual: Residual = "post",
        qkv_bias: bool = False,
        attn_threshold: float | None = 0.5,
        scale: float = 0.25,
        order: Order = "auto",
        alpha: float = 0.5,
        kernel: int = 5,
        thresholds: tuple[float, float] | None = (0.3, 0.5),
        released: bool = False,
    ) -> None:
        super().__init__(dim, num_heads, neuron, residual, qkv_bias, attn_threshold, scale, order)
        self.interaction = TemporalInteraction(dim // num_heads, neuron, alpha, kernel, thresholds)
        neurons = (self.interaction.neuron_in, self.interaction.neuron_out, self.product_neuron)
        self._intended = [(n, t.clone()) for n in neurons if isinstance(t := getattr(n, "threshold", None), Tensor)]
        self.released = False
        if released:
            self.follow_release()

    def follow_release(self, on: bool = True) -> None:
        """Compute as the release does, or not.

        There, the heads come from reading `[C, N]` as (N, h, d) without transposing (with as many tokens as channels a
        head), so that head i has the channels i, i + h, i + 2h, …, products contract over the tokens and their result
        comes back transposed. And its thresholds of 0.3 and 0.5 are given under a keyword that its neuron does not
        know, so that all are 1, and after the first step no query ever fires.
        """
        self.released = on
        for neuron, threshold in self._intended:
            cast(Tensor, neuron.threshold).copy_(torch.ones_like(threshold) if on else threshold)

    def merge(self) -> nn.Module:
        return self.synapse(self.dim, False)

    def heads(self, x: Tensor) -> Tensor:
        if not self.released:
            return super().heads(x)
        tokens, width = x.shape[-1], self.dim // self.num_heads
        if tokens != width:
            raise ArgumentError(
                f"released=True needs as many tokens as channels a head, as the released model has (16), got {tokens} "
                f"tokens and {width} channels a head"
            )
        return x.flatten(2).unflatten(2, (tokens, self.num_heads, width)).transpose(2, 3)

    def mix(self, *projections: Tensor) -> Tensor:
        q, k, v = (self.heads(p) for p in projections)
        q = self.interaction(q)
        if self.released:
            q, k, v = q.mT, k.mT, v.mT
        product = spike_product(q, k, v, self.order) * self.scale
        return self.product_neuron(product.flatten(2, 3))


TIMSSA = TemporalAttention
"""The name of the literature."""
