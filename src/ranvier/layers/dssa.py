"""Dual spike self-attention (DSSA): two products with one binary factor each, scaled by measured firing rates."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError
from ranvier.layers.attention import SpikingAttention, wide, without_autocast
from ranvier.layers.conv import ConvBN
from ranvier.layers.residual import Residual
from ranvier.neurons import NeuronFactory


class DSSA(SpikingAttention):
    """DSSA (Shi et al., SpikingResformer, CVPR 2024): with spikes `S = LIF(x)` and `Y = BN(conv p×p stride p (S))`,

        A = LIF(c₁ Y₁ᵀ S),   Z = LIF(c₂ Y₂ A),   BN(conv 1×1 (Z)),

    a head at a time, where Y has 2C channels (Y₁ and Y₂ of every head side by side) and L columns, S has N. The scales
    keep what reaches the neurons at unit variance: `c₁ = 1/√(f_S d)`, `c₂ = 1/√(f_A L)`, with the moving averages f of
    the firing rates of S and A a head; training updates them, and the first batch sets them. Both products are
    additions. An average that is still zero counts as one.

    Args:
        dim, num_heads, neuron: as in `SpikingAttention`; d = C/heads.
        residual: "membrane" as published, or "post".
        attn_threshold: of the neuron that makes Z, None for the neuron's own (published).
        patch_size: p.
        momentum: of the moving averages.
        rate_scale: False leaves both scales at one, for an ablation.
        dims: 2 for images, 1 for `[T, B, C, N]`.
    """

    names = ()
    # What `recompute` must know: the forward pass reads buffers that it writes.
    reads_own_buffers = True

    def __init__(
        self,
        dim: int,
        num_heads: int,
        neuron: NeuronFactory,
        residual: Residual = "membrane",
        attn_threshold: float | None = None,
        patch_size: int = 1,
        momentum: float = 0.999,
        rate_scale: bool = True,
        dims: int = 2,
    ) -> None:
        if not isinstance(patch_size, int) or patch_size < 1:
            raise ArgumentError(f"patch_size must be a positive integer, got {patch_size!r}")
        if not 0 <= momentum < 1:
            raise ArgumentError(f"momentum must be in [0, 1), got {momentum!r}")
        self.dims = dims
        super().__init__(dim, num_heads, neuron, residual, False, attn_threshold)
        self.embed = ConvBN(dim, 2 * dim, patch_size, patch_size, padding=0, dims=dims)
        self.map_neuron = neuron(channels=num_heads)
        self.patch_size, self.momentum, self.rate_scale = patch_size, momentum, rate_scale
        self.input_rate: Tensor
        self.map_rate: Tensor
        for name in ("input_rate", "map_rate"):
            self.register_buffer(name, torch.zeros(1, 1, num_heads, 1, 1))

    def synapse(self, dim: int, bias: bool) -> nn.Module:
        return ConvBN(dim, dim, 1, dims=self.dims)

    def forward(self, x: Tensor) -> Tensor:
        spikes = x if self.before is None else self.before(x)
        grid = spikes.shape[3:]
        if min(grid) < self.patch_size:
            raise ArgumentError(f"patch_size {self.patch_size} is larger than the token grid {tuple(grid)}")
        y1, y2 = self.heads(self.embed(spikes).flatten(3)).chunk(2, dim=3)
        s = self.heads(spikes.flatten(3))
        with without_autocast(x.device):
            c1 = self._scale(self.input_rate, s, s.shape[3])
            attention = self.map_neuron((wide(y1).mT @ wide(s)) * c1)
            c2 = self._scale(self.map_rate, attention, attention.shape[3])
            mixed = self.product_neuron(((wide(y2) @ attention) * c2).flatten(2, 3))
        return self.activate(self.proj(mixed.to(spikes.dtype).unflatten(3, grid)))

    @torch.no_grad()
    def _scale(self, average: Tensor, spikes: Tensor, terms: int) -> Tensor | float:
        """`1/√(f · terms)`, after the moving average f has seen `spikes` `[T, B, h, ., .]`."""
        if not self.rate_scale:
            return 1.0
        if self.training:
            now = spikes.mean((0, 1, 3, 4), keepdim=True, dtype=average.dtype)
            if torch.distributed.is_available() and torch.distributed.is_initialized():
                torch.distributed.all_reduce(now)
                now /= torch.distributed.get_world_size()
            updated = average * self.momentum + now * (1 - self.momentum)
            average.copy_(torch.where((average == 0).all(), now, updated))
        return (torch.where(average > 0, average, 1) * terms).rsqrt()
