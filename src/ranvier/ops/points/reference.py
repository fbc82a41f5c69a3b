"""The point operations in plain torch: what the compiled ones must equal."""

from __future__ import annotations

import torch
from torch import Tensor


def farthest(xyz: Tensor, first: Tensor, m: int) -> Tensor:
    """`[B, N, D]` and first rows `[B]` to `[B, m]`."""
    rows = [first]
    batch = torch.arange(len(xyz), device=xyz.device)
    distance = xyz.new_full(xyz.shape[:2], float("inf"))
    for _ in range(m - 1):
        distance = torch.minimum(distance, (xyz - xyz[batch, rows[-1]][:, None]).square().sum(-1))
        distance[batch, rows[-1]] = -1.0  # never again, even among points in one place
        rows.append(distance.argmax(1))
    return torch.stack(rows, 1)


def _distances(query: Tensor, xyz: Tensor) -> Tensor:
    return (query[:, :, None] - xyz[:, None]).square().sum(-1)


def nearest(query: Tensor, xyz: Tensor, k: int) -> Tensor:
    """`[B, M, D]` and `[B, N, D]` to `[B, M, k]`."""
    return _distances(query, xyz).sort(stable=True, dim=-1).indices[..., :k]


def in_ball(query: Tensor, xyz: Tensor, radius: float, k: int) -> Tensor:
    """`[B, M, D]` and `[B, N, D]` to `[B, M, k]`."""
    n = xyz.shape[1]
    rows = torch.where(
        _distances(query, xyz) < radius * radius, torch.arange(n, device=xyz.device), n
    )  # fmt: skip
    first = torch.nn.functional.pad(rows, (0, k), value=n).sort(-1).values[..., :k]
    first = torch.where(first == n, first[..., :1], first)
    return torch.where(first == n, -1, first)
