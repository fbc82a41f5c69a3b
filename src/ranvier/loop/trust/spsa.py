"""Simultaneous perturbation: gradients from two evaluations (Spall 1992), for hardware without backpropagation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def spsa_gradient(function: Callable[[Tensor], Tensor], x: Tensor, c: float, generator: torch.Generator) -> Tensor:
    """Estimate of the gradient of `function` (`[N, D]` to `[N]`) at `x`: every coordinate has its own random sign."""
    sign = torch.randint(0, 2, x.shape, generator=generator).to(x.dtype) * 2 - 1
    change = function(x + c * sign) - function(x - c * sign)
    return (change / (2 * c)).unsqueeze(-1) * sign


def spsa_ascend(function: Callable[[Tensor], Tensor], x: Tensor, steps: int, generator: torch.Generator, *,
                a: float = 0.05, c: float = 0.1) -> Tensor:  # fmt: skip
    """Climb `function` for `steps` steps with a_k = a/(k + 5)^0.602, c_k = c/(k + 1)^0.101; the best point seen."""
    best, value = x.clone(), function(x)
    for k in range(steps):
        gradient = spsa_gradient(function, x, c / (k + 1) ** 0.101, generator)
        x = x + a / (k + 5) ** 0.602 * gradient.clamp(-50, 50)
        now = function(x)
        better = now > value
        best, value = torch.where(better[:, None], x, best), torch.where(better, now, value)
    return best
