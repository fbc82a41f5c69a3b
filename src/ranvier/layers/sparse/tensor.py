"""Voxels and what they carry: a sparse tensor is a set of voxels and one row of features a voxel."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ranvier.errors import ArgumentError, ShapeError
from ranvier.ops.sparse_conv import KernelMap, check_coords, distinct, kernel_map, pack

Shape = tuple[int, ...]


@dataclass(eq=False)
class Voxels:
    """A set of occupied voxels and the kernel maps over it, each made once.

    Attributes:
        coords: int32 `[n, 1 + dims]`: batch number and 2 or 3 axes; no row twice.
        batch_size: samples; those without a voxel count too.
        shape: extents of the grid, None where it is not bounded.
        stride: how many voxels of the finest grid one of these spans, an axis.
        finer: the voxels that these were made from by a strided convolution, the map there, and its name.
    """

    coords: Tensor
    batch_size: int
    shape: Shape | None
    stride: Shape
    finer: tuple[Voxels, KernelMap, str | None] | None = None
    _maps: dict[Any, KernelMap] = field(default_factory=dict[Any, KernelMap])
    _coarser: dict[Any, weakref.ref[Voxels]] = field(default_factory=dict[Any, "weakref.ref[Voxels]"])
    _counts: Tensor | None = None

    @property
    def dims(self) -> int:
        """Axes beside the batch."""
        return self.coords.shape[1] - 1

    def __len__(self) -> int:
        return len(self.coords)

    @property
    def rows(self) -> Tensor:
        """`coords` with three axes: a grid of two has one layer."""
        if self.dims == 3:
            return self.coords
        return torch.cat([self.coords[:, :1], torch.zeros_like(self.coords[:, :1]), self.coords[:, 1:]], 1)

    def counts(self) -> Tensor:
        """Voxels of every sample, int64 `[batch_size]`."""
        if self._counts is None:
            self._counts = torch.bincount(self.coords[:, 0].to(torch.int64), minlength=self.batch_size)
        return self._counts

    def submanifold(self, kernel: Shape, dilation: Shape) -> KernelMap:
        """The map onto the same voxels."""
        key = (kernel, dilation)
        if key not in self._maps:
            self._maps[key] = kernel_map(self.rows, _three(kernel, 1), dilation=_three(dilation, 1))
        return self._maps[key]

    def coarser(
        self, kernel: Shape, stride: Shape, padding: Shape, dilation: Shape, boundary: str, name: str | None = None
    ) -> Voxels:
        """The voxels that a strided convolution reaches; those remember the way back."""
        key = (kernel, stride, padding, dilation, boundary)
        known = self._coarser.get(key)
        found = known() if known is not None else None
        if found is None:
            kmap = kernel_map(
                self.rows, _three(kernel, 1), _three(stride, 1), _three(padding, 0), "strided",
                dilation=_three(dilation, 1), boundary=boundary,  # pyright: ignore[reportArgumentType]
                spatial_shape=None if self.shape is None else _three(self.shape, 1),
            )  # fmt: skip
            coords = kmap.out_coords if self.dims == 3 else kmap.out_coords[:, [0, 2, 3]]
            shape = None if kmap.out_shape is None else kmap.out_shape[3 - self.dims :]
            spans = tuple(a * b for a, b in zip(self.stride, stride, strict=True))
            found = Voxels(coords, self.batch_size, shape, spans, (self, kmap, name))
            self._coarser[key] = weakref.ref(found)  # not a cycle: the coarse voxels keep the fine ones alive
        return found


def _three(values: Shape, missing: int) -> tuple[int, int, int]:
    a, b, c = (missing,) * (3 - len(values)) + tuple(values)
    return a, b, c


class SparseTensor:
    """Features `[n, C]`, or `[T, n, C]` for T time steps over the same voxels.

    Args:
        feats: one row a voxel.
        coords: integers `[n, 1 + dims]` (batch, then 2 or 3 axes), no row twice; or `Voxels` that are shared.
        spatial_shape: extents of the grid, so that `dense()` and bounded convolutions know them.
        batch_size: samples; by default one more than the largest batch number.
        stride: what one voxel spans on the finest grid.

    Raises `ShapeError` or `ArgumentError` for rows that do not fit, coordinates out of range or outside the grid, and
    voxels that occur twice.
    """

    def __init__(
        self,
        feats: Tensor,
        coords: Tensor | Voxels,
        spatial_shape: Sequence[int] | None = None,
        batch_size: int | None = None,
        stride: int | Sequence[int] = 1,
    ) -> None:
        if isinstance(coords, Voxels):
            self.voxels = coords
        else:
            self.voxels = _checked(coords, spatial_shape, batch_size, stride)
        if feats.dim() not in (2, 3) or feats.shape[-2] != len(self.voxels):
            raise ShapeError(
                f"feats must be [{len(self.voxels)}, C] or [T, {len(self.voxels)}, C], got shape {tuple(feats.shape)}"
            )
        self.feats = feats

    @property
    def coords(self) -> Tensor:
        """int32 `[n, 1 + dims]`."""
        return self.voxels.coords

    @property
    def spatial_shape(self) -> Shape | None:
        """Extents of the grid, None where it is not bounded."""
        return self.voxels.shape

    @property
    def batch_size(self) -> int:
        """Samples."""
        return self.voxels.batch_size

    @property
    def stride(self) -> Shape:
        """What one voxel spans on the finest grid, an axis."""
        return self.voxels.stride

    @property
    def channels(self) -> int:
        """C."""
        return self.feats.shape[-1]

    def __len__(self) -> int:
        return len(self.voxels)

    def replace(self, feats: Tensor) -> SparseTensor:
        """Other features on the same voxels, kernel maps included."""
        return SparseTensor(feats, self.voxels)

    def map(self, function: Callable[[Tensor], Tensor]) -> SparseTensor:
        """`function` applied to the rows `[n, C]`, to those of all steps at once: `[T n, C]`."""
        if self.feats.dim() == 2:
            return self.replace(function(self.feats))
        steps = self.feats.shape[0]
        return self.replace(function(self.feats.flatten(0, 1)).unflatten(0, (steps, -1)))

    def __add__(self, other: SparseTensor) -> SparseTensor:
        if not isinstance(other, SparseTensor):
            return NotImplemented
        return self.replace(self.feats + same_voxels(self, other).feats)

    def dense(self) -> Tensor:
        """`[B, C, *shape]`, or `[T, B, C, *shape]`; empty voxels are zero."""
        if self.spatial_shape is None:
            raise ArgumentError("dense() needs a grid with a spatial_shape; give one to SparseTensor or voxelize")
        b, *axes = self.coords.to(torch.int64).unbind(1)
        if any(int(axis.min()) < 0 for axis in axes if axis.numel()):
            raise ArgumentError("dense() needs voxels at 0 or above on every axis")
        steps = self.feats.shape[:-2]
        out = self.feats.new_zeros((self.batch_size, *self.spatial_shape, *steps, self.channels))
        rows = self.feats if not steps else self.feats.transpose(0, 1)
        out = out.index_put((b, *axes), rows)
        dims = len(axes)
        return out.movedim(-1, 1) if not steps else out.movedim(dims + 1, 0).movedim(-1, 2)

    def to(self, device: torch.device | str) -> SparseTensor:
        """On another device, without its kernel maps."""
        moved = Voxels(self.coords.to(device), self.batch_size, self.spatial_shape, self.stride)
        return SparseTensor(self.feats.to(device), moved)

    def __repr__(self) -> str:
        return (
            f"SparseTensor({len(self)} voxels, feats {tuple(self.feats.shape)}, batch_size={self.batch_size}, "
            f"spatial_shape={self.spatial_shape}, stride={self.stride})"
        )


def same_voxels(one: SparseTensor, other: SparseTensor) -> SparseTensor:
    """`other`, checked to lie on the voxels of `one`, row by row."""
    if one.voxels is not other.voxels and not torch.equal(one.coords, other.coords):
        raise ArgumentError(f"the sparse tensors lie on different voxels: {one!r} and {other!r}")
    return other


def cat(tensors: Sequence[SparseTensor]) -> SparseTensor:
    """The channels of tensors on the same voxels, one after the other."""
    if not tensors:
        raise ArgumentError("cat needs at least one sparse tensor")
    first = tensors[0]
    return first.replace(torch.cat([same_voxels(first, t).feats for t in tensors], -1))


def from_dense(volume: Tensor, keep: Tensor | None = None) -> SparseTensor:
    """The voxels of `[B, C, *shape]` (2 or 3 axes) that are not all zero, or those that `keep` `[B, *shape]` marks.

    Raises `ArgumentError` for values that are not finite.
    """
    if volume.dim() not in (4, 5):
        raise ShapeError(f"volume must be [B, C, H, W] or [B, C, X, Y, Z], got shape {tuple(volume.shape)}")
    if not bool(volume.isfinite().all()):
        raise ArgumentError("volume holds NaN or infinity")
    keep = (volume != 0).any(1) if keep is None else keep
    coords = keep.nonzero()
    b, *axes = coords.unbind(1)
    feats = volume.movedim(1, -1)[(b, *axes)]
    voxels = Voxels(coords.to(torch.int32), volume.shape[0], tuple(volume.shape[2:]), (1,) * len(axes))
    return SparseTensor(feats, voxels)


def _checked(
    coords: Tensor, shape: Sequence[int] | None, batch_size: int | None, stride: int | Sequence[int]
) -> Voxels:  # fmt: skip
    if coords.dim() != 2 or coords.shape[1] not in (3, 4):
        raise ShapeError(f"coords must be [n, 3] or [n, 4] (batch and axes), got shape {tuple(coords.shape)}")
    dims = coords.shape[1] - 1
    strides = (stride,) * dims if isinstance(stride, int) else tuple(stride)
    if len(strides) != dims or any(not isinstance(s, int) or s < 1 for s in strides):
        raise ArgumentError(f"stride must be a positive integer or {dims} of them, got {stride!r}")
    largest = int(coords[:, 0].max()) if len(coords) else -1
    batch_size = max(1, largest + 1) if batch_size is None else batch_size
    if batch_size <= largest or batch_size < 1:
        raise ArgumentError(f"batch_size must be at least {max(1, largest + 1)} for these coords, got {batch_size}")
    voxels = Voxels(coords.detach(), batch_size, None if shape is None else tuple(shape), strides)
    check_coords(voxels.rows)
    voxels.coords = voxels.coords.to(torch.int32)
    if voxels.shape is not None:
        if len(voxels.shape) != dims or any(not isinstance(s, int) or s < 1 for s in voxels.shape):
            raise ArgumentError(f"spatial_shape must be {dims} positive integers, got {shape!r}")
        limit = torch.tensor(voxels.shape, device=coords.device)
        outside = ((voxels.coords[:, 1:] < 0) | (voxels.coords[:, 1:] >= limit)).any(1)
        if bool(outside.any()):
            row = int(outside.nonzero()[0])
            raise ArgumentError(
                f"coords: voxel {voxels.coords[row].tolist()} in row {row} lies outside the grid {voxels.shape}"
            )
    keys = pack(voxels.rows)
    found, _ = distinct(keys)
    if len(found) != len(keys):
        from ranvier.ops.sparse_conv.maps_reference import refuse_repeated

        refuse_repeated(voxels.rows)
    return voxels
