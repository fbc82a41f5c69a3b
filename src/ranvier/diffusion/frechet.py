"""Fréchet distance between two sets of features: the FID formula in any feature space."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ranvier.errors import ArgumentError, ShapeError


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """`|μ_a − μ_b|² + tr(Σ_a + Σ_b − 2 (Σ_a Σ_b)^½)` of Gaussians fitted to features `[N, D]`, in float64.

    Small sets are biased upwards: compare only sets of equal sizes. Source: Heusel et al., NeurIPS 2017 (there with
    features of an Inception net; figures from other features are another scale).
    """
    for name, features in (("a", a), ("b", b)):
        if features.dim() != 2 or len(features) < 2:
            raise ShapeError(
                f"{name} must be features [N, D] of at least two samples, got shape {tuple(features.shape)}"
            )
        if not bool(features.isfinite().all()):
            raise ArgumentError(f"{name} holds features that are not finite")
    if a.shape[1] != b.shape[1]:
        raise ShapeError(f"a and b must have the same number of features, got {a.shape[1]} and {b.shape[1]}")
    x, y = (f.detach().cpu().double().numpy() for f in (a, b))
    cov_x, cov_y = np.atleast_2d(np.cov(x.T)), np.atleast_2d(np.cov(y.T))
    root = _root(cov_x)
    cross = np.linalg.eigvalsh(root @ cov_y @ root)
    overlap = float(np.sqrt(np.maximum(cross, 0)).sum())
    away = x.mean(0) - y.mean(0)
    return float(away @ away + np.trace(cov_x) + np.trace(cov_y) - 2 * overlap)


def _root(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
