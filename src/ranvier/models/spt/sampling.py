"""Queue-driven sampling: every step sees another part of the cloud, and two neighbouring steps share most of it."""

from __future__ import annotations

import torch
from torch import Tensor

from ranvier.errors import ArgumentError
from ranvier.ops.points import farthest_point_sample, group


def subset_size(points: int, steps: int, samples: int) -> int:
    """Points a step: P/T, but at least `samples` and at most P."""
    for name, value in (("points", points), ("T", steps), ("samples", samples)):
        if not isinstance(value, int) or value < 1:
            raise ArgumentError(f"{name} must be a positive integer, got {value!r}")
    return min(points, max(points // steps, samples))


def queue_rows(xyz: Tensor, steps: int, samples: int, released: bool = False) -> Tensor:
    """Rows of the points that each step of a cloud sees (Q-SDE; Wu et al., Spiking Point Transformer, AAAI 2025).

    The first step takes n = max(P/T, samples) points by farthest-point sampling. Every later one drops the
    ⌊(P − n)/(T − 1)⌋ oldest and takes as many, by farthest-point sampling of those that were not seen yet.

    Args:
        xyz: `[B, P, D]`.
        steps: T.
        samples: least number of points a step.
        released: as in the release: sampling starts at the first point, and rows found among the unseen points are
            taken as rows of the whole cloud, so that points come twice and others never.

    Returns int64 `[T, B, n]`, oldest first.
    """
    batch, points = xyz.shape[:2]
    n = subset_size(points, steps, samples)
    renewed = (points - n) // (steps - 1) if steps > 1 else 0

    def sample(cloud: Tensor, count: int) -> Tensor:
        start = torch.zeros(batch, dtype=torch.int64, device=cloud.device) if released else None
        return farthest_point_sample(cloud, count, start=start)

    queue = sample(xyz, n)
    chosen = [queue]
    rest = _without(torch.arange(points, device=xyz.device).expand(batch, -1), queue)  # there a place is the row
    for _ in range(steps - 1):
        if renewed:
            found = sample(group(xyz, rest.unsqueeze(-1)).squeeze(2), renewed)
            rows = found if released else rest.gather(1, found)
            queue = torch.cat([queue[:, renewed:], rows], 1)
            rest = _without(rest, found)
        chosen.append(queue)
    return torch.stack(chosen)


def _without(rows: Tensor, places: Tensor) -> Tensor:
    """`rows` `[B, R]` without those at `places` `[B, r]`."""
    kept = torch.ones(rows.shape, dtype=torch.bool, device=rows.device).scatter(1, places, False)
    return rows[kept].view(len(rows), -1)
