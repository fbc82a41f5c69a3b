"""Low-rank adaptation: a linear layer that is changed by a product of two thin matrices only."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ranvier.errors import ArgumentError


class LoraLinear(nn.Module):
    """`y = W x + b + B A x` with W and b frozen, A `[rank, in]` small and random, B `[out, rank]` zero at the start."""

    def __init__(self, inner: nn.Linear, rank: int = 2, seed: int = 0) -> None:
        super().__init__()
        if not 1 <= rank <= min(inner.in_features, inner.out_features):
            raise ArgumentError(f"rank must be from 1 to {min(inner.in_features, inner.out_features)}, got {rank}")
        self.inner = inner.requires_grad_(False)
        generator = torch.Generator().manual_seed(seed)
        draw = torch.randn(rank, inner.in_features, generator=generator, dtype=inner.weight.dtype)
        self.down = nn.Parameter(draw / inner.in_features**0.5)
        self.up = nn.Parameter(torch.zeros(inner.out_features, rank, dtype=inner.weight.dtype))

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) + F.linear(F.linear(x, self.down), self.up)

    @torch.no_grad()
    def merge(self) -> nn.Linear:
        """The plain layer with the change added in."""
        self.inner.weight += self.up @ self.down
        self.up.zero_()
        return self.inner.requires_grad_(True)
