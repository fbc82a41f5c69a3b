"""Voxel coordinates as one integer each, so that equality, order and neighbourhood are integer arithmetic.

A key holds the batch number and three axes, 16 bits each. Axes are offset by 2¹⁵ and keep a guard band, so that adding
the constant of a kernel offset never carries from one axis into the next: equal keys mean equal voxels, exactly.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ranvier.errors import ArgumentError, ShapeError

BIAS = 1 << 15
GUARD = 256
LARGEST = BIAS - GUARD  # coordinates lie in −LARGEST .. LARGEST − 1
LARGEST_BATCH = (1 << 15) - 1
SHIFTS = (48, 32, 16, 0)


def check_coords(coords: Tensor) -> None:
    """Raise unless `coords` are integers `[n, 4]` (batch, a, b, c) in range: batch 0 .. 32767, axes ±32512."""
    if coords.dim() != 2 or coords.shape[1] != 4:
        raise ShapeError(f"coords must be [n, 4] (batch and three axes), got shape {tuple(coords.shape)}")
    if coords.dtype not in (torch.int16, torch.int32, torch.int64):
        raise ArgumentError(f"coords must be integers, got {coords.dtype}")
    if coords.shape[0] == 0:
        return
    low, high = coords.amin(0).tolist(), coords.amax(0).tolist()
    if low[0] < 0 or high[0] > LARGEST_BATCH:
        raise ArgumentError(
            f"coords: batch numbers must lie in 0 .. {LARGEST_BATCH}, got {low[0] if low[0] < 0 else high[0]}"
        )
    if min(low[1:]) < -LARGEST or max(high[1:]) >= LARGEST:
        worst = min(low[1:]) if min(low[1:]) < -LARGEST else max(high[1:])
        raise ArgumentError(
            f"coords: voxels must lie in {-LARGEST} .. {LARGEST - 1} on every axis, got {worst}; use larger voxels, "
            "crop the range or subtract an origin"
        )


def pack(coords: Tensor) -> Tensor:
    """int64 keys of coordinates that have been checked; their order is the lexicographic one of the rows."""
    c = coords.to(torch.int64)
    return (c[:, 0] << 48) | ((c[:, 1] + BIAS) << 32) | ((c[:, 2] + BIAS) << 16) | (c[:, 3] + BIAS)


def unpack(keys: Tensor) -> Tensor:
    """Inverse of `pack`: int32 `[n, 4]`."""
    axes = [keys >> 48, *(((keys >> shift) & 0xFFFF) - BIAS for shift in SHIFTS[1:])]
    return torch.stack(axes, 1).to(torch.int32)
