"""Points in space: farthest-point samples, nearest neighbours, balls."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ranvier.errors import ArgumentError, DataError, ShapeError
from ranvier.ops.backend import use_kernels
from ranvier.ops.points import reference

__all__ = ["ball_query", "farthest_point_sample", "group", "knn"]


def farthest_point_sample(
    xyz: Tensor, m: int, start: Tensor | None = None, generator: torch.Generator | None = None
) -> Tensor:
    """Rows of `m` points that lie far apart: each is the one farthest from those before it (ties: the lowest row).

    Args:
        xyz: `[N, 3]` or `[B, N, 3]` (any number of axes), finite.
        start: first row of each cloud, `[B]` (a scalar for one); by default the point nearest to the mean.
        generator: draw the first row instead.

    Returns int64 `[m]` or `[B, m]`, in the order of choice. With m = N that is a permutation.
    """
    clouds = _clouds(xyz, "xyz")
    n = clouds.shape[1]
    if not isinstance(m, int) or not 1 <= m <= n:
        raise ArgumentError(f"m must be an integer from 1 to the {n} points, got {m!r}")
    if start is not None:
        first = start.reshape(-1).to(torch.int64)
        if len(first) != len(clouds) or bool(((first < 0) | (first >= n)).any()):
            raise ArgumentError(f"start must be {len(clouds)} rows from 0 to {n - 1}, got {start.tolist()}")
    elif generator is not None:
        first = torch.randint(n, (len(clouds),), generator=generator).to(clouds.device)
    else:
        first = (clouds - clouds.mean(1, keepdim=True)).square().sum(-1).argmin(1)
    if _fast(clouds):
        from ranvier.ops.points.numba_cpu import farthest

        out = np.empty((len(clouds), m), np.int64)
        farthest(clouds.detach().double().contiguous().numpy(), first.numpy(), out)
        found = torch.from_numpy(out)
    else:
        found = reference.farthest(clouds.detach().double(), first, m)
    return found if xyz.dim() == 3 else found[0]


def knn(query: Tensor, xyz: Tensor, k: int) -> Tensor:
    """Rows of the `k` points of `xyz` nearest to each `query`, nearest first, ties by row: int64 `[..., M, k]`.

    `query` `[M, 3]` or `[B, M, 3]`, `xyz` `[N, 3]` or `[B, N, 3]`. Distances are taken in float64.
    """
    wanted, clouds = _clouds(query, "query"), _clouds(xyz, "xyz")
    _same(wanted, clouds)
    n = clouds.shape[1]
    if not isinstance(k, int) or not 1 <= k <= n:
        raise ArgumentError(f"k must be an integer from 1 to the {n} points, got {k!r}")
    a, b = wanted.detach().double(), clouds.detach().double()
    if _fast(clouds):
        from ranvier.ops.points.numba_cpu import nearest

        out = np.empty((*a.shape[:2], k), np.int64)
        nearest(a.contiguous().numpy(), b.contiguous().numpy(), out)
        found = torch.from_numpy(out)
    else:
        found = reference.nearest(a, b, k)
    return found if xyz.dim() == 3 else found[0]


def ball_query(query: Tensor, xyz: Tensor, radius: float, k: int) -> Tensor:
    """Rows of the first `k` points (by row) closer than `radius` to each query; too few are filled up with the first.

    int64 `[..., M, k]`, −1 where there is none.
    """
    wanted, clouds = _clouds(query, "query"), _clouds(xyz, "xyz")
    _same(wanted, clouds)
    if not radius > 0 or not isinstance(k, int) or k < 1:
        raise ArgumentError(f"radius must be positive and k a positive integer, got {radius!r} and {k!r}")
    a, b = wanted.detach().double(), clouds.detach().double()
    if _fast(clouds):
        from ranvier.ops.points.numba_cpu import in_ball

        out = np.full((*a.shape[:2], k), -1, np.int64)
        in_ball(a.contiguous().numpy(), b.contiguous().numpy(), radius * radius, out)
        found = torch.from_numpy(out)
    else:
        found = reference.in_ball(a, b, radius, k)
    return found if xyz.dim() == 3 else found[0]


def group(points: Tensor, rows: Tensor) -> Tensor:
    """`points` `[B, N, C]` at `rows` `[B, M, k]`: `[B, M, k, C]` (without B for single clouds)."""
    if points.dim() == 2:
        return points[rows]
    flat = rows.flatten(1)
    return points.gather(1, flat[..., None].expand(-1, -1, points.shape[-1])).unflatten(1, rows.shape[1:])


def _clouds(x: Tensor, name: str) -> Tensor:
    if x.dim() not in (2, 3) or not x.is_floating_point():
        raise ShapeError(f"{name} must be floating point [N, D] or [B, N, D], got {tuple(x.shape)} of {x.dtype}")
    if 0 in x.shape:
        raise DataError(f"{name} is empty: shape {tuple(x.shape)}")
    if not bool(x.isfinite().all()):
        raise DataError(f"{name} holds NaN or infinity")
    return x if x.dim() == 3 else x[None]


def _same(a: Tensor, b: Tensor) -> None:
    if a.shape[0] != b.shape[0] or a.shape[2] != b.shape[2]:
        raise ShapeError(f"query and xyz must agree in batch and axes, got {tuple(a.shape)} and {tuple(b.shape)}")


def _fast(x: Tensor) -> bool:
    return x.device.type == "cpu" and use_kernels("cpu")
