"""Kernel maps: which input voxel meets which output voxel under which kernel offset (the rulebook)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ranvier.errors import ArgumentError
from ranvier.ops.backend import use_kernels
from ranvier.ops.parallel import over_range
from ranvier.ops.sparse_conv import maps_reference
from ranvier.ops.sparse_conv.keys import GUARD, check_coords, pack, unpack

Mode = Literal["submanifold", "strided"]
Boundary = Literal["ceil", "spconv"]
Axes = tuple[int, int, int]
_MOST_OFFSETS = 64  # on one axis


@dataclass(frozen=True, eq=False)
class KernelMap:
    """The pairs of a sparse convolution, grouped by kernel offset.

    Attributes:
        in_idx, out_idx: rows that meet, int32 `[P]`; those of offset κ are `ptr[κ] : ptr[κ + 1]`, and no row of the
            output occurs twice among them.
        ptr: int64 `[K + 1]` on the CPU.
        offsets: the offsets κ, int32 `[K, 3]`, in lexicographic order.
        n_in, n_out: rows of input and output.
        out_coords: output voxels (batch, a, b, c), int32 `[n_out, 4]`.
        out_shape: extents of the output grid, where those of the input were given.
        identity: the offset that maps every row to itself, or −1.
    """

    in_idx: Tensor
    out_idx: Tensor
    ptr: Tensor
    offsets: Tensor
    n_in: int
    n_out: int
    out_coords: Tensor
    out_shape: Axes | None = None
    identity: int = -1

    @property
    def pairs(self) -> int:
        """How many (input, output) pairs there are: the convolution multiplies pairs · C_in · C_out times."""
        return int(self.ptr[-1])

    def transposed(self, coords: Tensor, shape: Axes | None = None) -> KernelMap:
        """The map of the inverse convolution, back onto the input voxels `coords` of this one."""
        if len(coords) != self.n_in:
            raise ArgumentError(f"coords must be the {self.n_in} input voxels of the map, got {len(coords)}")
        return KernelMap(
            self.out_idx, self.in_idx, self.ptr, self.offsets, self.n_out, self.n_in, coords, shape, self.identity
        )

    def fan_out(self) -> Tensor:
        """How many pairs each input row is in, int64 `[n_in]`."""
        return torch.bincount(self.in_idx, minlength=self.n_in)


def axes(name: str, value: int | Sequence[int], least: int) -> Axes:
    """`value` for each of the three axes."""
    given = (value,) * 3 if isinstance(value, int) else tuple(value)
    if len(given) != 3 or any(not isinstance(v, int) or isinstance(v, bool) or v < least for v in given):
        raise ArgumentError(f"{name} must be an integer >= {least} or three of them, got {value!r}")
    return given[0], given[1], given[2]


def kernel_map(
    coords: Tensor,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    mode: Mode = "submanifold",
    *,
    dilation: int | Sequence[int] = 1,
    spatial_shape: Sequence[int] | None = None,
    boundary: Boundary = "ceil",
) -> KernelMap:
    """The kernel map of a sparse convolution over the voxels `coords` (`[n, 4]`: batch and three axes, no row twice).

    "submanifold": the outputs are the inputs; offset κ from −⌊k/2⌋ to ⌊k/2⌋ (odd kernels, stride 1) pairs output o
    with input o + κ·dilation, as `conv3d` does. "strided": output o exists where some 0 ≤ κ < k has an input at
    o·stride − padding + κ·dilation; outputs are in lexicographic order.

    Args:
        spatial_shape: extents of the grid. Without it outputs are not bounded (and may be negative).
        boundary: the extent of a strided output: "ceil" rounds ⌈(L + 2p − k)/s⌉ + 1, so that no voxel is lost;
            "spconv" rounds down as dense convolutions and spconv do (k = s = 2 drops the last plane of odd extents).

    Raises `ArgumentError` for coordinates out of range, rows that occur twice, even kernels in submanifold mode.
    """
    check_coords(coords)
    k, s = axes("kernel_size", kernel_size, 1), axes("stride", stride, 1)
    p, d = axes("padding", padding, 0), axes("dilation", dilation, 1)
    shape = None if spatial_shape is None else axes("spatial_shape", tuple(spatial_shape), 1)
    if max(k) > _MOST_OFFSETS or max((ki - 1) * di + pi for ki, di, pi in zip(k, d, p, strict=True)) >= GUARD:
        raise ArgumentError(f"kernel_size {k} with dilation {d} and padding {p} reaches too far (at most {GUARD - 1})")
    if mode not in ("submanifold", "strided") or boundary not in ("ceil", "spconv"):
        raise ArgumentError(
            f"mode must be 'submanifold' or 'strided' and boundary 'ceil' or 'spconv', got {mode!r} and {boundary!r}"
        )
    fast = use_kernels(coords.device.type) and coords.device.type == "cpu"
    if mode == "submanifold":
        if s != (1, 1, 1) or any(ki % 2 == 0 for ki in k):
            raise ArgumentError(f"a submanifold convolution has stride 1 and an odd kernel, got {s} and {k}")
        offsets = _offsets(tuple(range(-(ki // 2), ki // 2 + 1) for ki in k))
        search = _submanifold if fast else maps_reference.submanifold
        in_idx, out_idx, ptr = search(pack(coords), offsets * torch.tensor(d), k, d)
        n, centre = len(coords), len(offsets) // 2
        return KernelMap(in_idx, out_idx, ptr, offsets, n, n, coords.to(torch.int32), shape, centre)
    out_shape = None if shape is None else _out_shape(shape, k, s, p, d, boundary)
    search = _strided if fast else maps_reference.strided
    in_idx, out_idx, ptr, keys = search(coords, k, s, p, d, out_shape or (-1, -1, -1))
    offsets = _offsets(tuple(range(ki) for ki in k))
    return KernelMap(in_idx, out_idx, ptr, offsets, len(coords), len(keys), unpack(keys), out_shape)


def distinct(keys: Tensor) -> tuple[Tensor, Tensor]:
    """The distinct int64 `keys` (≥ 0) in ascending order, and for every key its place among them (int64)."""
    if not (use_kernels(keys.device.type) and keys.device.type == "cpu"):
        return torch.unique(keys, return_inverse=True)
    found, number = _distinct(keys.numpy())
    return torch.from_numpy(found), torch.from_numpy(number)


def _offsets(ranges: tuple[range, ...]) -> Tensor:
    return torch.tensor(list(itertools.product(*ranges)), dtype=torch.int32)


def _out_shape(shape: Axes, k: Axes, s: Axes, p: Axes, d: Axes, boundary: Boundary) -> Axes:
    out: list[int] = []
    for extent, ki, si, pi, di in zip(shape, k, s, p, d, strict=True):
        room = extent + 2 * pi - di * (ki - 1) - 1
        out.append((room // si if boundary == "spconv" else math.ceil(room / si)) + 1)
    if min(out) < 1:
        raise ArgumentError(f"spatial_shape {shape} is too small for kernel_size {k} with padding {p}")
    return out[0], out[1], out[2]


def _table(count: int) -> tuple[np.ndarray, np.ndarray, int]:
    """An empty hash table with at least twice as many slots as keys, its rows, and the shift that picks a slot."""
    bits = max(3, (2 * count - 1).bit_length())
    return np.full(1 << bits, -1, np.int64), np.empty(1 << bits, np.int32), 64 - bits


def _distinct(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from ranvier.ops.sparse_conv import numba_maps

    keys = np.ascontiguousarray(keys)
    first, number = np.empty(len(keys), np.int64), np.empty(len(keys), np.int64)
    if numba_maps.is_ascending(keys):
        count = numba_maps.number_ascending(keys, first, number)
        return first[:count].copy(), number
    table, rows, shift = _table(len(keys))
    count = numba_maps.number_distinct(keys, shift, table, rows, first, number)
    order = np.argsort(first[:count])
    rank = np.empty(count, np.int64)
    rank[order] = np.arange(count)
    return first[order], rank[number]


def _submanifold(keys: Tensor, offsets: Tensor, k: Axes, d: Axes) -> tuple[Tensor, Tensor, Tensor]:
    from ranvier.ops.sparse_conv import numba_maps

    key, n, kernels = keys.numpy(), len(keys), len(offsets)
    half, centre = kernels // 2, kernels // 2
    later = offsets[centre + 1 :].to(torch.int64)
    deltas = ((later[:, 0] << 32) + (later[:, 1] << 16) + later[:, 2]).numpy()
    found = np.empty((half, n), np.int32)
    work = np.full(max(1, half), n)  # rows, as often as they are visited
    order = numba_maps.is_ascending(key)
    if half and order == 2:
        starts, steps, lengths, first = _lines(deltas, k[2], d[2])
        over_range(lambda lo, hi: numba_maps.walked_neighbours(lo, hi, key, starts, steps, lengths, first, found), work)
    elif n:
        table, rows, shift = _table(n)
        again = numba_maps.insert_all(key, shift, table, rows)
        if again >= 0:
            maps_reference.complain(keys, again)
        if half:
            over_range(
                lambda lo, hi: numba_maps.hashed_neighbours(lo, hi, key, shift, table, rows, deltas, found), work
            )
    ptr = np.empty(kernels + 1, np.int64)
    nothing = np.empty(0, np.int32)
    numba_maps.mirrored_pairs(found, centre, nothing, nothing, ptr)
    in_idx, out_idx = np.empty(ptr[-1], np.int32), np.empty(ptr[-1], np.int32)
    if n:
        numba_maps.mirrored_pairs(found, centre, in_idx, out_idx, ptr)
    return torch.from_numpy(in_idx), torch.from_numpy(out_idx), torch.from_numpy(ptr)


def _lines(deltas: np.ndarray, along: int, dilation: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The later half of the offsets as runs along the last axis: their starts, steps, lengths and first numbers."""
    own = along // 2  # the rest of the line through the voxel itself
    firsts = ([0] if own else []) + list(range(own, len(deltas), along))
    lengths = ([own] if own else []) + [along] * (len(firsts) - bool(own))
    return (
        deltas[firsts], np.full(len(firsts), dilation, np.int64), np.array(lengths, np.int64),
        np.array(firsts, np.int64),
    )  # fmt: skip


def _strided(coords: Tensor, k: Axes, s: Axes, p: Axes, d: Axes, extent: Axes) -> tuple[Tensor, ...]:
    from ranvier.ops.sparse_conv import numba_maps

    maps_reference.refuse_repeated(coords)
    c = np.ascontiguousarray(coords.numpy())
    most = len(c) * math.prod(-(-ki // si) for ki, si in zip(k, s, strict=True)) if d == (1, 1, 1) else (
        len(c) * math.prod(k)
    )  # fmt: skip
    keys, rows, kinds = np.empty(most, np.int64), np.empty(most, np.int32), np.empty(most, np.int32)
    ks, ss, ps, ds, limit = (np.array(v, np.int64) for v in (k, s, p, d, extent))
    count = numba_maps.reached_outputs(c, ks, ss, ps, ds, limit, keys, rows, kinds)
    found, number = _distinct(keys[:count])
    in_idx, out_idx = np.empty(count, np.int32), np.empty(count, np.int32)
    ptr = np.empty(math.prod(k) + 1, np.int64)
    numba_maps.grouped_pairs(rows[:count], number, kinds[:count], math.prod(k), in_idx, out_idx, ptr)
    return tuple(torch.from_numpy(v) for v in (in_idx, out_idx, ptr, found))
