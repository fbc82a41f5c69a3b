"""What the tests of SPAM share: weights, steps, gradients with spikes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ranvier.optim import SPAM

KINDS = [{}, {"foreach": True}, {"foreach": False}]


def weight(*shape: int, dtype: torch.dtype = torch.float64) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape, dtype=dtype))


def run(optimizer: SPAM, p: Tensor, grads: Tensor) -> Tensor:
    path: list[Tensor] = []
    for g in grads:
        p.grad = g.clone()
        optimizer.step()
        path.append(p.detach().clone())
    return torch.stack(path)


def spiky(steps: int, count: int, dtype: torch.dtype = torch.float64) -> Tensor:
    spikes = torch.where(torch.rand(steps, count) < 0.03, 1000.0, 1.0)
    return (torch.randn(steps, count) * spikes).to(dtype)
