"""What the tests of layers with delays share: sizes, spikes, the definition written out."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from ranvier.layers import DelayLinear

T, B, N, M, D = 15, 3, 6, 4, 7  # steps, samples, inputs, outputs, longest delay


def spikes(steps: int = T, rate: float = 0.4, inputs: int = N) -> Tensor:
    return (torch.rand(steps, B, inputs) < rate).double()


def loop(layer: DelayLinear, x: Tensor) -> Tensor:
    """The definition, written out over `layer.kernel()`."""
    kernel, groups = layer.kernel(), layer.groups
    y = x.new_zeros(len(x), x.shape[1], layer.out_features)
    for t, n in itertools.product(range(len(x)), range(D + 1)):
        s = t - D + n
        if s >= 0:
            parts = zip(x[s].chunk(groups, 1), kernel.chunk(groups, 0), strict=True)
            y[t] += torch.cat([part @ k[:, :, n].T for part, k in parts], 1)
    return y
