"""Minima of a function of one ratio: by grid and golden section, by AdamW, or of a polynomial exactly."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

_GOLDEN = (math.sqrt(5) - 1) / 2


def grid_minimum(loss: Callable[[float], Tensor | float], low: float, high: float, points: int, golden: int) -> float:
    """The best of `points` evenly spaced values, refined by `golden` golden-section steps between its neighbours.

    Never worse than the best point; values that are not finite lose. Where nothing is better than 1 (no
    compensation), the result is 1.
    """

    def value(rho: float) -> float:
        found = float(loss(rho))
        return found if math.isfinite(found) else math.inf

    step = (high - low) / (points - 1)
    candidates = [low + i * step for i in range(points)]
    losses = [value(rho) for rho in candidates]
    best = int(np.argmin(losses))
    best_rho, best_loss = candidates[best], losses[best]
    a, b = max(low, candidates[best] - step), min(high, candidates[best] + step)
    left, right = b - _GOLDEN * (b - a), a + _GOLDEN * (b - a)
    at_left, at_right = (value(left), value(right)) if golden else (math.inf, math.inf)
    for _ in range(golden):
        for rho, found in ((left, at_left), (right, at_right)):
            if found < best_loss:
                best_rho, best_loss = rho, found
        if at_left <= at_right:
            b, right, at_right = right, left, at_left
            left = b - _GOLDEN * (b - a)
            at_left = value(left)
        else:
            a, left, at_left = left, right, at_right
            right = a + _GOLDEN * (b - a)
            at_right = value(right)
    for rho, found in ((left, at_left), (right, at_right)):
        if found < best_loss:
            best_rho, best_loss = rho, found
    return best_rho if best_loss < value(1.0) else 1.0


def adamw_minimum(
    loss: Callable[[Tensor], Tensor], iterations: int, lr: float, weight_decay: float, like: Tensor
) -> float:
    """AdamW from 1, keeping the best iterate; `loss` must be differentiable in its 0-dim argument."""
    rho = torch.ones((), dtype=torch.float64, device=like.device, requires_grad=True)
    optimizer = torch.optim.AdamW([rho], lr=lr, weight_decay=weight_decay)
    best = (math.inf, 1.0)
    for iteration in range(iterations + 1):
        value = loss(rho)
        best = min(best, (float(value.detach()), float(rho.detach())))
        if iteration == iterations or not math.isfinite(float(value.detach())):
            break
        (rho.grad,) = torch.autograd.grad(value, rho)  # of the ratio only: the net's gradients are not ours to touch
        optimizer.step()
    return best[1]


def polynomial_minimum(residual: Callable[[float], Tensor], degree: int, low: float, high: float) -> float:
    """The minimum over `low .. high` of the mean square of a `residual` that is a polynomial of `degree` in ρ.

    Its coefficients come from `degree + 1` evaluations, and the mean square, of twice the degree, from their inner
    products in float64.
    """
    nodes = np.linspace(low, high, degree + 1)
    rows = torch.stack([residual(float(node)).double().flatten() for node in nodes])
    # monomials of (ρ − 1), which keep the Vandermonde matrix well conditioned and make 1 the reference
    to_coefficients = torch.from_numpy(np.linalg.inv(np.vander(nodes - 1, degree + 1, increasing=True)))
    coefficients = to_coefficients.to(rows.device) @ rows
    gram = (coefficients @ coefficients.T / rows.shape[1]).cpu().numpy()
    square = np.zeros(2 * degree + 1)
    for i in range(degree + 1):
        for j in range(degree + 1):
            square[i + j] += gram[i, j]
    polynomial = np.polynomial.Polynomial(square)
    roots = polynomial.deriv().roots()
    inside = [float(root.real) for root in roots if abs(root.imag) < 1e-9 and low - 1 <= root.real <= high - 1]
    candidates = [0.0, low - 1, high - 1, *inside]
    return 1.0 + min(candidates, key=lambda u: (float(polynomial(u)), abs(u)))
