"""Q-K attention: spikes of the queries, summed, gate the keys; linear in the number of tokens and channels."""

from __future__ import annotations

from torch import Tensor

from ranvier.layers.attention import SpikingAttention, wide


class QKTokenAttention(SpikingAttention):
    """QKTA (Zhou et al., QKFormer, NeurIPS 2024): `LIF½(Σ_channels Q) ⊙ K`, one gate a token and head."""

    names = ("q", "k")

    def product_channels(self) -> int:
        return self.num_heads

    def mix(self, *projections: Tensor) -> Tensor:
        q, k = (self.heads(p) for p in projections)
        gate = self.product_neuron(q.sum(3, dtype=wide(q).dtype)).to(k.dtype)
        return (gate.unsqueeze(3) * k).flatten(2, 3)


class QKChannelAttention(SpikingAttention):
    """QKCA (Zhou et al., QKFormer, NeurIPS 2024): `LIF½(Σ_tokens Q) ⊙ K`, one gate a channel."""

    names = ("q", "k")

    def mix(self, *projections: Tensor) -> Tensor:
        q, k = projections
        gate = self.product_neuron(q.sum(-1, dtype=wide(q).dtype)).to(k.dtype)
        return gate.unsqueeze(-1) * k
