"""A small causal transformer, pre-norm, over token ids time first."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x: Tensor, causal: bool) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2).flatten(2)
        x = x + self.out(mixed)
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class CausalTransformer(nn.Module):
    """Ids `[T, B]` to logits `[T, B, V]`, T up to `context`; `inner` is the width of the hidden layers."""

    def __init__(
        self, vocab: int, layers: int, width: int, heads: int, context: int, inner: int | None = None
    ) -> None:  # fmt: skip
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocab, width), nn.Embedding(context, width)
        for table in (self.tokens, self.places):
            nn.init.normal_(table.weight, 0, 0.02)
        self.blocks = nn.ModuleList(_Block(width, heads, inner or 4 * width) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocab, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids.T) + self.places.weight[: ids.shape[0]]
        for block in self.blocks:
            x = block(x, True)
        return self.head(self.norm(x)).transpose(0, 1)


class PatchTransformer(nn.Module):
    """Forecasts each channel of `[B, T, C]` on its own from overlapping patches (Nie et al., ICLR 2023).

    Each window is normalised by its own mean and spread, which the forecast gets back.
    """

    def __init__(
        self, length: int = 96, ahead: int = 24, patch: int = 16, stride: int = 8, layers: int = 2, width: int = 16,
        heads: int = 4,
    ) -> None:  # fmt: skip
        super().__init__()
        self.patch, self.stride, self.ahead = patch, stride, ahead
        count = (length - patch) // stride + 1
        self.embed = nn.Linear(patch, width)
        self.places = nn.Parameter(0.02 * torch.randn(count, width))
        self.blocks = nn.ModuleList(_Block(width, heads, 4 * width) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(count * width, ahead)

    def forward(self, x: Tensor) -> Tensor:
        batch, _, channels = x.shape
        flat = x.transpose(1, 2).flatten(0, 1)
        mean, spread = flat.mean(1, keepdim=True), flat.std(1, keepdim=True) + 1e-5
        tokens = self.embed(((flat - mean) / spread).unfold(1, self.patch, self.stride)) + self.places
        for block in self.blocks:
            tokens = block(tokens, False)
        forecast = self.head(self.norm(tokens).flatten(1)) * spread + mean
        return forecast.unflatten(0, (batch, channels)).transpose(1, 2)
