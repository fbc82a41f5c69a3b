"""Exponential moving average of the weights."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from ranvier.optim.finite import local


class WeightAverage:
    """A copy of `net` whose floating-point weights and statistics follow it; integer buffers are copied.

    `average ← d · average + (1 − d) · weights` after update n (from 1), with d = min(decay, (1 + n) / (10 + n)) so that
    the initial weights are soon forgotten.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.net = deepcopy(net).requires_grad_(False)
        self.net.eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, net: nn.Module, updates: int) -> None:
        """Follow `net` after its update number `updates`."""
        decay = min(self.decay, (1 + updates) / (10 + updates))
        averages: list[Tensor] = []
        values: list[Tensor] = []
        current = net.state_dict()
        for key, average in self.net.state_dict().items():
            if average.is_floating_point():
                averages.append(local(average))
                values.append(local(current[key]))
            else:
                average.copy_(current[key])
        torch._foreach_lerp_(averages, values, 1 - decay)  # pyright: ignore[reportPrivateImportUsage]
