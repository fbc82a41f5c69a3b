"""Dynamic compensation: the newest output moved along a polynomial (Zhao et al., "DC-Solver", ECCV 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor

from ranvier.errors import ArgumentError

Ratio = TypeVar("Ratio", float, Tensor)


def lagrange_weights(times: Sequence[float], rho: Ratio) -> list[Ratio]:
    """Weights of the outputs at `times` (newest first) that give the polynomial through them at `t'`.

    `t' = ρ t_i + (1 − ρ) t_{i−1}` with the two newest times; a ρ that is a tensor keeps its gradient.
    """
    target = rho * times[0] + (1 - rho) * times[1]
    weights: list[Ratio] = []
    for k, t_k in enumerate(times):
        weight = 1.0 + 0.0 * rho
        for j, t_j in enumerate(times):
            if j != k:
                weight = weight * (target - t_j) / (t_k - t_j)
        weights.append(weight)
    return weights


def lagrange_compensate(
    outputs: Sequence[Tensor], times: Sequence[float], rho: float | Tensor, order: int = 2
) -> Tensor:
    """The newest output replaced by the interpolation of degree `order` at `t' = ρ t_i + (1 − ρ) t_{i−1}`.

    ρ = 1 returns the newest output itself; ρ > 1 extrapolates towards less noise. Affine maps of the times with a
    positive factor change nothing.

    Args:
        outputs: denoiser outputs (after guidance, conversion and thresholding), at least `order + 1`, all of one shape.
        times: their times, monotonic. Sampling goes from large to small times, so the newest output is the one with
            the smallest time, whichever end of the lists that is.
        rho: the compensation ratio, a number or a 0-dim tensor.
        order: K >= 1, degree of the polynomial.

    Source: DC-Solver (arXiv 2409.03755), equation 9.
    """
    if len(outputs) != len(times):
        raise ArgumentError(f"outputs and times must have the same length, got {len(outputs)} and {len(times)}")
    if isinstance(order, bool) or not isinstance(order, int) or order < 1:
        raise ArgumentError(f"order must be an integer >= 1, got {order!r}")
    if len(times) < order + 1:
        raise ArgumentError(f"compensation of order {order} needs {order + 1} outputs, got {len(times)}")
    newest_first = list(zip([float(t) for t in times], outputs, strict=True))
    if newest_first[0][0] > newest_first[-1][0]:
        newest_first.reverse()
    kept = newest_first[: order + 1]
    ordered = [t for t, _ in kept]
    if any(a >= b for a, b in pairwise(ordered)):
        raise ArgumentError(f"times must be strictly monotonic, got {list(times)}")
    return compensate([m for _, m in kept], ordered, rho)


def compensate(outputs: Sequence[Tensor], times: Sequence[float], rho: float | Tensor) -> Tensor:
    """`lagrange_compensate` of checked lists, newest first, all of which take part."""
    if isinstance(rho, Tensor):
        return _weighted(outputs, lagrange_weights(times, rho))
    if rho == 1:
        return outputs[0]
    weights = lagrange_weights(times, float(rho))
    result = outputs[0] * weights[0]
    for m, w in zip(outputs[1:], weights[1:], strict=True):
        result = result.add_(m, alpha=w)
    return result


def _weighted(outputs: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
    total = torch.zeros_like(outputs[0])
    for m, w in zip(outputs, weights, strict=True):
        total = total + w.to(m) * m
    return total
