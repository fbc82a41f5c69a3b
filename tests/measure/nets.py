"""Small nets whose counts can be worked out by hand."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Threshold(nn.Module):
    """A memoryless stand-in for a neuron."""

    is_spiking_neuron = True

    def forward(self, x: Tensor) -> Tensor:
        return (x >= 1).to(x.dtype)


class Attention(nn.Module):
    """Q (Kᵀ V) of binary tokens `[T, B, 3, h, N, d]`, functional."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = x.unbind(2)
        return q @ (k.transpose(-1, -2) @ v)


def spikes(*shape: int, rate: float = 0.3) -> Tensor:
    return (torch.rand(*shape) < rate).float()
