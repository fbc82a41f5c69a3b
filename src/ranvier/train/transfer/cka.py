"""Centred kernel alignment: how alike two sets of features of the same samples are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from ranvier.errors import ArgumentError, ShapeError

Kernel = Literal["linear", "rbf"]
KERNELS = ("linear", "rbf")


def cka(x: Tensor, y: Tensor, kernel: Kernel = "linear", debiased: bool = False, eps: float = 0.0) -> Tensor:
    """Centred kernel alignment of features `x` `[n, ...]` and `y` `[n, ...]` of the same n samples; a scalar.

    `⟨Kc, Lc⟩ / (‖Kc‖ ‖Lc‖ + eps)` with centred Gram matrices (Kornblith et al., ICML 2019): 1 for features that differ
    by a rotation, a scale and a shift, 0 for a constant set. The plain estimate lies in [0, 1] and is far above 0 for
    unrelated features when n is below their number; `debiased` uses the unbiased estimate of Song et al. (JMLR 2012),
    which may fall a little below 0.

    Args:
        x, y: anything behind the first axis is flattened; the numbers of features may differ.
        kernel: "linear", or "rbf" with twice the median squared distance as its scale.
        debiased: needs at least four samples; the plain estimate needs two.
        eps: added to the denominator.

    Computed in float32 at least, outside autocast. Differentiable; where a set is constant, the gradient is 0. Raises
    `ShapeError` for sets of different length or too few samples, and `ArgumentError` for values that are not finite.
    """
    for name, features in (("x", x), ("y", y)):
        if not isinstance(features, Tensor) or features.dim() < 2 or features.numel() == 0:
            given = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise ShapeError(f"{name} must be features [n, ...] of n samples, got {given}")
        if not bool(torch.isfinite(features).all()):
            raise ArgumentError(f"{name} holds values that are not finite")
    return cka_each(x.unsqueeze(0), y.unsqueeze(0), kernel, debiased, eps)[0]


def cka_matrix(
    a: Mapping[str, Tensor], b: Mapping[str, Tensor], kernel: Kernel = "linear", debiased: bool = True
) -> Tensor:
    """`cka` of every set in `a` (rows) with every set in `b` (columns), `[len(a), len(b)]` in float64.

    Every value is features `[n, ...]` of the same n samples.
    """
    if not a or not b:
        raise ArgumentError("a and b must hold at least one set of features each")
    grams = [[centred_gram(f.double().unsqueeze(0), kernel, debiased) for f in sets.values()] for sets in (a, b)]
    rows = [torch.stack([alignment(k, other, 0.0)[0] for other in grams[1]]) for k in grams[0]]
    return torch.stack(rows)


def cka_each(x: Tensor, y: Tensor, kernel: Kernel, debiased: bool, eps: float) -> Tensor:
    """`cka` of every step of `x` and `y` `[T, n, ...]`: `[T]`."""
    if x.shape[:2] != y.shape[:2]:
        raise ShapeError(f"x and y must have the same steps and samples, got {tuple(x.shape)} and {tuple(y.shape)}")
    grams = [centred_gram(features, kernel, debiased) for features in (x, y)]
    return alignment(grams[0], grams[1], eps)


def centred_gram(x: Tensor, kernel: Kernel = "linear", debiased: bool = False) -> Tensor:
    """The centred Gram matrices of `x` `[T, n, ...]`, `[T, n, n]`; see `centred` and `u_centred`."""
    if kernel not in KERNELS:
        raise ArgumentError(f"kernel must be one of {', '.join(KERNELS)}; got {kernel!r}")
    least = 4 if debiased else 2
    if x.shape[1] < least:
        raise ShapeError(
            f"the alignment of {x.shape[1]} sample{'s' * (x.shape[1] != 1)} is not defined: "
            f"{'the debiased estimate' if debiased else 'it'} needs a batch of at least {least}, got "
            f"shape {tuple(x.shape)}"
        )
    with torch.autocast(x.device.type, enabled=False):
        x = x.flatten(2)
        x = x.float() if x.dtype not in (torch.float32, torch.float64) else x
        x = x - x.mean(1, keepdim=True)  # changes neither kernel's centred form, and keeps the digits
        if kernel == "linear":
            gram = x @ x.mT
            if not debiased:
                return gram
        else:
            gram = _rbf(squared_distances(x, x))
        return u_centred(gram) if debiased else centred(gram)


def centred(gram: Tensor) -> Tensor:
    """`J K J` with `J = I − 11ᵀ/n`: rows and columns sum to 0. `gram` is `[..., n, n]`."""
    return gram - gram.mean(-1, keepdim=True) - gram.mean(-2, keepdim=True) + gram.mean((-2, -1), keepdim=True)


def u_centred(gram: Tensor) -> Tensor:
    """The U-centred matrix (Székely and Rizzo 2014): zero diagonal, and inner products that have no bias; n ≥ 4."""
    n = gram.shape[-1]
    diagonal = torch.eye(n, dtype=torch.bool, device=gram.device)
    k = gram.masked_fill(diagonal, 0)
    rows, columns = k.sum(-1, keepdim=True), k.sum(-2, keepdim=True)
    total = rows.sum(-2, keepdim=True)
    k = k - rows / (n - 2) - columns / (n - 2) + total / ((n - 1) * (n - 2))
    return k.masked_fill(diagonal, 0)


def alignment(k: Tensor, other: Tensor, eps: float) -> Tensor:
    """`⟨K, L⟩ / (‖K‖ ‖L‖ + eps)` of centred matrices `[T, n, n]`, 0 where one of them vanishes: `[T]`."""
    bottom = _norm(k) * _norm(other) + eps
    return (k * other).sum((-2, -1)) / torch.where(bottom > 0, bottom, 1)


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """Between the rows of `x` `[T, n, p]` and `y` `[T, m, p]`: `[T, n, m]`, not below 0."""
    both = x.square().sum(-1)[..., None] + y.square().sum(-1)[..., None, :]
    return (both - 2 * x @ y.mT).clamp_min(0)


def _rbf(distances: Tensor) -> Tensor:
    middle = distances.detach().flatten(1).quantile(0.5, dim=1)[:, None, None]
    return torch.exp(-distances / (2 * torch.where(middle > 0, middle, 1)))


def _norm(k: Tensor) -> Tensor:
    square = k.square().sum((-2, -1))
    alive = square > 0
    return torch.where(alive, torch.where(alive, square, 1).sqrt(), 0)  # the root has no gradient at 0
