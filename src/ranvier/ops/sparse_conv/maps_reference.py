"""Kernel maps in plain torch: what the compiled ones must equal, and what runs on other devices."""

from __future__ import annotations

import itertools
from typing import NoReturn

import torch
from torch import Tensor

from ranvier.errors import ArgumentError
from ranvier.ops.sparse_conv.keys import pack, unpack

Axes = tuple[int, int, int]


def complain(keys: Tensor, row: int) -> NoReturn:
    """Raise for the voxel in `row`, which occurs before."""
    voxel = unpack(keys[row : row + 1])[0].tolist()
    earlier = int((keys == keys[row]).nonzero()[0])
    raise ArgumentError(f"coords: rows {earlier} and {row} are the same voxel {voxel}; merge them first (voxelize)")


def refuse_repeated(coords: Tensor) -> None:
    """Raise `ArgumentError` when a voxel occurs twice."""
    from ranvier.ops.sparse_conv.kernel_map import distinct

    keys = pack(coords)
    found, number = distinct(keys)
    if len(found) == len(keys):
        return
    seen = torch.zeros(len(found), dtype=torch.bool)
    for row, place in enumerate(number.tolist()):
        if seen[place]:
            complain(keys, row)
        seen[place] = True


def submanifold(keys: Tensor, offsets: Tensor, k: Axes, d: Axes) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs of every offset: one binary search of shifted keys each."""
    order = torch.argsort(keys)
    ascending = keys[order]
    repeated = (ascending[1:] == ascending[:-1]).nonzero()
    if len(repeated):
        rows = (keys == ascending[int(repeated[0])]).nonzero().flatten()
        complain(keys, int(rows[1]))
    ins: list[Tensor] = []
    outs: list[Tensor] = []
    for a, b, c in offsets.tolist():
        wanted = keys + (a << 32) + (b << 16) + c
        place = torch.searchsorted(ascending, wanted).clamp_max(max(0, len(keys) - 1))
        hit = (ascending[place] == wanted).nonzero().flatten() if len(keys) else place
        ins.append(order[place[hit]] if len(keys) else place)
        outs.append(hit)
    return _joined(ins, outs)


def strided(coords: Tensor, k: Axes, s: Axes, p: Axes, d: Axes, extent: Axes) -> tuple[Tensor, ...]:
    """Pairs of every offset, and the keys of the outputs."""
    refuse_repeated(coords)
    given = coords.to(torch.int64)
    stride = torch.tensor(s, device=coords.device)
    limit = torch.tensor(extent, device=coords.device)
    ins: list[Tensor] = []
    places: list[Tensor] = []
    for offset in itertools.product(*(range(ki) for ki in k)):
        shift = torch.tensor([pi - o * di for pi, o, di in zip(p, offset, d, strict=True)], device=coords.device)
        place = given[:, 1:] + shift
        reached = (place % stride == 0).all(1)
        place = torch.div(place, stride, rounding_mode="floor")
        reached &= ((limit < 0) | ((place >= 0) & (place < limit))).all(1)
        rows = reached.nonzero().flatten()
        ins.append(rows)
        places.append(pack(torch.cat([given[rows, :1], place[rows]], 1)))
    found, number = torch.unique(torch.cat(places), return_inverse=True)
    in_idx, out_idx, ptr = _joined(ins, list(number.split([len(rows) for rows in ins])))
    return in_idx, out_idx, ptr, found


def _joined(ins: list[Tensor], outs: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    ptr = torch.tensor([0, *itertools.accumulate(len(rows) for rows in ins)])
    return torch.cat(ins).to(torch.int32), torch.cat(outs).to(torch.int32), ptr
