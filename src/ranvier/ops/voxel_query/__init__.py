"""The occupied voxels around places: what RoI pooling gathers."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ranvier.ops.backend import use_kernels
from ranvier.ops.sparse_conv import pack

__all__ = ["voxel_query", "voxel_query_reference"]


def voxel_query(
    coords: Tensor, centres: Tensor, cells: Tensor, places: Tensor, reach: int, radius: float, most: int
) -> Tensor:  # fmt: skip
    """The first `most` voxels within `reach` voxels on every axis and `radius` of each place, in the order of voxels.

    Args:
        coords: `[n, 4]` occupied voxels in lexicographic order; centres: their centres `[n, 3]`.
        cells: `[q, 4]` voxel of each place; places: the places themselves `[q, 3]`.

    Returns rows int64 `[q, most]`; too few are filled up with the first, and −1 where there is none.
    """
    if coords.device.type != "cpu" or not use_kernels("cpu"):
        return voxel_query_reference(coords, centres, cells, places, reach, radius, most)
    from ranvier.ops.voxel_query.numba_cpu import query

    found = np.full((len(cells), most), -1, np.int64)
    query(
        pack(coords).numpy(), centres.double().numpy(), cells.long().numpy(), places.double().numpy(), reach,
        radius * radius, found,
    )  # fmt: skip
    return torch.from_numpy(found)


def voxel_query_reference(
    coords: Tensor, centres: Tensor, cells: Tensor, places: Tensor, reach: int, radius: float, most: int
) -> Tensor:  # fmt: skip
    """`voxel_query` in plain torch: every place against every voxel."""
    parts: list[Tensor] = []
    for own, at in zip(cells.split(512), places.split(512), strict=True):
        near = (coords[None, :, 0] == own[:, None, 0]) & ((coords[None, :, 1:] - own[:, None, 1:]).abs() <= reach).all(
            -1
        )
        near &= (centres.double()[None] - at.double()[:, None]).square().sum(-1) < radius * radius
        place = torch.where(near, torch.arange(len(coords), device=coords.device), len(coords))
        first = torch.nn.functional.pad(place, (0, most), value=len(coords)).sort(1).values[:, :most]
        first = torch.where(first == len(coords), first[:, :1], first)
        parts.append(torch.where(first == len(coords), -1, first))
    return torch.cat(parts) if parts else torch.zeros(0, most, dtype=torch.int64)
