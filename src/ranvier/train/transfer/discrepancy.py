"""Distances between two distributions of features, to put in the place of the alignment."""

from __future__ import annotations

import torch
from torch import Tensor

from ranvier.train.transfer.cka import Kernel, squared_distances


def mmd_each(x: Tensor, y: Tensor, kernel: Kernel = "linear") -> Tensor:
    """Squared maximum mean discrepancy (Gretton et al., JMLR 2012, biased) of each step of `[T, n, ...]`: `[T]`.

    With the linear kernel the squared distance of the means; with "rbf" the scale is twice the median squared distance
    of all samples.
    """
    x, y = x.flatten(2), y.flatten(2)
    if kernel == "linear":
        return (x.mean(1) - y.mean(1)).square().sum(-1)
    both = torch.cat([x, y], 1)
    distances = squared_distances(both, both)
    middle = distances.detach().flatten(1).quantile(0.5, dim=1)[:, None, None]
    k = torch.exp(-distances / (2 * torch.where(middle > 0, middle, 1)))
    n = x.shape[1]
    return k[:, :n, :n].mean((1, 2)) + k[:, n:, n:].mean((1, 2)) - 2 * k[:, :n, n:].mean((1, 2))


def coral_each(x: Tensor, y: Tensor) -> Tensor:
    """Deep CORAL (Sun and Saenko, ECCV 2016): `‖Cov(x) − Cov(y)‖² / (4 p²)` of each step of `[T, n, ...]`: `[T]`.

    Through Gram matrices, so that no p × p matrix is made.
    """
    x, y = x.flatten(2), y.flatten(2)
    n, p = x.shape[1:]
    x, y = x - x.mean(1, keepdim=True), y - y.mean(1, keepdim=True)

    def square(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.mT).square().sum((-2, -1))

    return (square(x, x) + square(y, y) - 2 * square(x, y)) / (4 * p * p * (n - 1) ** 2)
