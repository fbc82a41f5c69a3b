"""Points to voxels and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from ranvier.errors import ArgumentError, DataError, ShapeError
from ranvier.layers.sparse.tensor import SparseTensor, Voxels
from ranvier.ops.sparse_conv import distinct, pack, unpack
from ranvier.ops.sparse_conv.keys import LARGEST

Reduce = Literal["mean", "first", "random", "max"]


def voxelize(
    points: Tensor,
    feats: Tensor | None,
    voxel_size: float | Sequence[float],
    range: Sequence[float] | None = None,
    reduce: Reduce = "mean",
    max_points: int | None = None,
    *,
    batch: Tensor | None = None,
    batch_size: int | None = None,
    max_voxels: int | None = None,
    margin: int = 0,
    order: Sequence[int] | None = None,
    generator: torch.Generator | None = None,
) -> tuple[SparseTensor, Tensor]:
    """One row of features for every voxel that holds a point: the first half of spike voxel coding.

    Args:
        points: `[N, dims]`, 2 or 3 axes, floating point and finite.
        feats: `[N, C]`; the points themselves when None.
        voxel_size: edge of a voxel, one or an axis.
        range: lows then highs of the axes (`[x0, y0, z0, x1, y1, z1]`); points outside are left out, and the grid is
            that range. Without it every sample is moved so that its lowest voxel is 0 on every axis.
        reduce: what represents a voxel: the mean or maximum of its points, its first one, or one drawn with
            `generator` (random in evaluation too, unless seeded: prefer "mean" or "first" there).
        max_points: only the first so many points of a voxel count.
        batch: sample of every point, int64 `[N]`; one sample when None.
        batch_size: number of samples, each of which must have a point in range.
        max_voxels: only the first so many voxels of a sample, in the order in which points reach them.
        margin: voxels of empty grid beyond the highest one, without a range (the released classifier has 95).
        order: axes of the grid in terms of those of the points; `(2, 1, 0)` gives (z, y, x), as detectors count.

    Returns the sparse tensor, its voxels in lexicographic order, and for every point the row of its voxel (int64
    `[N]`, −1 for points left out). Raises `DataError` for points that are not finite, none at all, or a sample
    without any in range.
    """
    points, batch, samples = _checked(points, batch, batch_size)
    dims = points.shape[1]
    feats = points if feats is None else feats
    if feats.dim() != 2 or len(feats) != len(points):
        raise ShapeError(f"feats must be [{len(points)}, C], got shape {tuple(feats.shape)}")
    if reduce not in ("mean", "first", "random", "max"):
        raise ArgumentError(f"reduce must be 'mean', 'first', 'random' or 'max', got {reduce!r}")
    for name, value in (("max_points", max_points), ("max_voxels", max_voxels)):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise ArgumentError(f"{name} must be a positive integer or None, got {value!r}")
    sizes = [float(voxel_size)] * dims if isinstance(voxel_size, int | float) else [float(v) for v in voxel_size]
    if len(sizes) != dims or any(not s > 0 for s in sizes):
        raise ArgumentError(f"voxel_size must be positive, one or {dims} numbers, got {voxel_size!r}")
    cells, inside, shape = _cells(points, batch, samples, sizes, range, margin)
    axes = [0, 1, 2][:dims] if order is None else list(order)
    if sorted(axes) != [0, 1, 2][:dims]:
        raise ArgumentError(f"order must be a permutation of the {dims} axes, got {order!r}")
    shape = tuple(shape[a] for a in axes)
    kept = inside.nonzero().flatten()
    empty = (torch.bincount(batch[kept], minlength=samples) == 0).nonzero()
    if len(empty):
        where = "" if range is None else f" in the range {list(range)}"
        raise DataError(f"sample {int(empty[0])} has no point{where}")
    rows = torch.cat([batch[kept, None], cells[kept][:, axes]], 1)
    three = rows if dims == 3 else torch.cat([rows[:, :1], torch.zeros_like(rows[:, :1]), rows[:, 1:]], 1)
    keys, number = distinct(pack(three))
    if max_voxels is not None:
        keys, number, kept = _limited(keys, number, kept, samples, max_voxels)
    coords = unpack(keys)
    coords = coords if dims == 3 else coords[:, [0, 2, 3]]
    point2voxel = torch.full((len(points),), -1, dtype=torch.int64, device=points.device)
    point2voxel[kept] = number
    values = _reduced(feats[kept], number, len(keys), reduce, max_points, generator)
    return SparseTensor(values, Voxels(coords, samples, shape, (1,) * dims)), point2voxel


def _checked(points: Tensor, batch: Tensor | None, batch_size: int | None) -> tuple[Tensor, Tensor, int]:
    if points.dim() != 2 or points.shape[1] not in (2, 3) or not points.is_floating_point():
        raise ShapeError(f"points must be floating point [N, 2] or [N, 3], got {tuple(points.shape)} of {points.dtype}")
    if not len(points):
        raise DataError("the cloud is empty: there is no point to make a voxel of")
    finite = points.isfinite().all(1)
    if not bool(finite.all()):
        row = int((~finite).nonzero()[0])
        raise DataError(f"point {row} is not finite: {points[row].tolist()}")
    if batch is None:
        batch = torch.zeros(len(points), dtype=torch.int64, device=points.device)
    if batch.shape != (len(points),) or batch.is_floating_point():
        raise ShapeError(f"batch must be integers [{len(points)}], got {tuple(batch.shape)} of {batch.dtype}")
    batch = batch.to(torch.int64)
    low, high = int(batch.min()), int(batch.max())
    samples = high + 1 if batch_size is None else batch_size
    if low < 0 or high >= samples:
        raise ArgumentError(f"batch must lie in 0 .. {samples - 1}, got {low if low < 0 else high}")
    return points, batch, samples


def _cells(
    points: Tensor, batch: Tensor, samples: int, sizes: list[float], bounds: Sequence[float] | None, margin: int
) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """Voxel of every point, whether it counts, and the extents of the grid."""
    size = torch.tensor(sizes, dtype=points.dtype, device=points.device)
    dims = points.shape[1]
    if bounds is not None:
        if len(bounds) != 2 * dims or any(lo >= hi for lo, hi in zip(bounds[:dims], bounds[dims:], strict=True)):
            raise ArgumentError(f"range must be {dims} lows and as many higher highs, got {list(bounds)}")
        low = torch.tensor(bounds[:dims], dtype=points.dtype, device=points.device)
        shape = tuple(
            max(1, round((hi - lo) / s)) for lo, hi, s in zip(bounds[:dims], bounds[dims:], sizes, strict=True)
        )
        cells = ((points - low) / size).floor().to(torch.int64)
        limit = torch.tensor(shape, device=points.device)
        return cells, ((cells >= 0) & (cells < limit)).all(1), shape
    cells = (points / size).floor()
    lowest = cells.new_full((samples, dims), float("inf")).scatter_reduce(
        0, batch[:, None].expand(-1, dims), cells, "amin"
    )
    cells = cells - lowest[batch]
    most = int(cells.max()) if len(cells) else 0
    if most + margin >= LARGEST:
        raise ArgumentError(
            f"voxel_size {sizes} makes {most + 1} voxels along an axis, more than {LARGEST}; use larger ones or a range"
        )
    cells = cells.to(torch.int64)
    return cells, torch.ones_like(batch, dtype=torch.bool), tuple(int(v) + 1 + margin for v in cells.amax(0).tolist())


def _limited(keys: Tensor, number: Tensor, kept: Tensor, samples: int, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """Only the first `most` voxels of every sample, in the order of their first points."""
    first = torch.full((len(keys),), len(number), dtype=torch.int64, device=keys.device)
    first = first.scatter_reduce(0, number, torch.arange(len(number), device=keys.device), "amin")
    sample = keys >> 48
    arrival = torch.argsort(first)
    arrival = arrival[torch.argsort(sample[arrival], stable=True)]
    counts = torch.bincount(sample, minlength=samples)
    begin = counts.cumsum(0) - counts
    rank = torch.arange(len(keys), device=keys.device) - begin[sample[arrival]]
    chosen = torch.zeros(len(keys), dtype=torch.bool, device=keys.device)
    chosen[arrival[rank < most]] = True
    renumbered = chosen.cumsum(0) - 1
    stays = chosen[number]
    return keys[chosen], renumbered[number[stays]], kept[stays]


def _reduced(
    feats: Tensor, number: Tensor, voxels: int, reduce: Reduce, most: int | None, generator: torch.Generator | None
) -> Tensor:
    if most is not None:
        first = _rank(number) < most
        feats, number = feats[first], number[first]
    if reduce == "max":
        empty = feats.new_full((voxels, feats.shape[1]), float("-inf"))
        return empty.scatter_reduce(0, number[:, None].expand_as(feats), feats, "amax")
    if reduce == "mean":
        counts = torch.bincount(number, minlength=voxels).to(feats.dtype)
        return feats.new_zeros(voxels, feats.shape[1]).index_add(0, number, feats) / counts[:, None]
    order = torch.arange(len(number), device=feats.device)
    if reduce == "random":
        order = torch.randperm(len(number), generator=generator, device=feats.device)
    place = torch.full((voxels,), len(order), dtype=torch.int64, device=feats.device)
    place = place.scatter_reduce(0, number[order], torch.arange(len(order), device=feats.device), "amin")
    return feats[order[place]]


def _rank(number: Tensor) -> Tensor:
    """For every point its place among those of its voxel."""
    order = torch.argsort(number, stable=True)
    counts = torch.bincount(number)
    begin = counts.cumsum(0) - counts
    rank = torch.empty_like(number)
    rank[order] = torch.arange(len(number), device=number.device) - begin[number[order]]
    return rank


def devoxelize(
    x: SparseTensor,
    point2voxel: Tensor | None = None,
    mode: Literal["nearest", "trilinear"] = "nearest",
    *,
    positions: Tensor | None = None,
    batch: Tensor | None = None,
) -> Tensor:
    """Features `[N, C]` for points, from those of voxels.

    "nearest" takes the row of each point's own voxel (`point2voxel` from `voxelize`; zeros for −1). "trilinear" blends
    the occupied ones of the eight (four) voxels around `positions` `[N, dims]`, which are in voxels of `x`
    (voxel v has its centre at v + ½), weights renormalised; zeros where none is occupied.
    """
    if mode == "nearest":
        if point2voxel is None:
            raise ArgumentError("mode 'nearest' needs point2voxel")
        rows = x.feats[..., point2voxel.clamp_min(0), :]
        return rows * (point2voxel >= 0).to(rows.dtype)[:, None]
    if mode != "trilinear":
        raise ArgumentError(f"mode must be 'nearest' or 'trilinear', got {mode!r}")
    dims = x.voxels.dims
    if positions is None or positions.dim() != 2 or positions.shape[1] != dims:
        raise ShapeError(f"mode 'trilinear' needs positions [N, {dims}]")
    batch = torch.zeros(len(positions), dtype=torch.int64, device=positions.device) if batch is None else batch
    keys = pack(x.voxels.rows)
    ascending, order = keys.sort()
    base = (positions - 0.5).floor()
    part = positions - 0.5 - base
    total = x.feats.new_zeros((*x.feats.shape[:-2], len(positions), x.channels))
    weights = part.new_zeros(len(positions))
    for corner in torch.cartesian_prod(*[torch.arange(2, device=positions.device)] * dims):
        weight = torch.where(corner.bool(), part, 1 - part).prod(1)
        cell = torch.cat([batch[:, None], base.to(torch.int64) + corner], 1)
        if dims == 2:
            cell = torch.cat([cell[:, :1], torch.zeros_like(cell[:, :1]), cell[:, 1:]], 1)
        wanted = pack(cell)
        place = torch.searchsorted(ascending, wanted).clamp_max(len(keys) - 1)
        weight = weight * (ascending[place] == wanted)
        total = total + x.feats[..., order[place], :] * weight[:, None].to(total.dtype)
        weights = weights + weight
    return total / weights.clamp_min(torch.finfo(part.dtype).tiny)[:, None].to(total.dtype)
