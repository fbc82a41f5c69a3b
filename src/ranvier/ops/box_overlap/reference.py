"""Overlap of rotated rectangles in plain torch: the corners of the common polygon, sorted around its centre."""

from __future__ import annotations

import torch
from torch import Tensor


def corners(boxes: Tensor) -> Tensor:
    """`[N, 5]` (x, y, dx, dy, heading) to `[N, 4, 2]`, counter-clockwise."""
    signs = boxes.new_tensor([[1, 1], [-1, 1], [-1, -1], [1, -1]]) / 2
    local = signs * boxes[:, None, 2:4]
    cos, sin = boxes[:, 4, None].cos(), boxes[:, 4, None].sin()
    x = local[..., 0] * cos - local[..., 1] * sin
    y = local[..., 0] * sin + local[..., 1] * cos
    return torch.stack([x, y], -1) + boxes[:, None, :2]


def bev_intersection(a: Tensor, b: Tensor) -> Tensor:
    """`[N, 5]` and `[M, 5]` to shared areas `[N, M]`."""
    n, m = len(a), len(b)
    if not n or not m:
        return a.new_zeros(n, m)
    one = corners(a.double())[:, None].expand(n, m, 4, 2).flatten(0, 1)
    two = corners(b.double())[None].expand(n, m, 4, 2).flatten(0, 1)
    origin = one.mean(1, keepdim=True)
    one, two = one - origin, two - origin
    points = [one, two, _crossings(one, two)]
    valid = [_inside(one, two), _inside(two, one), points[2].isfinite().all(-1)]
    candidates, keep = torch.cat(points, 1), torch.cat(valid, 1)
    candidates = candidates.masked_fill(~keep[..., None], 0.0)
    count = keep.sum(1)
    centre = candidates.sum(1) / count.clamp_min(1)[:, None]
    around = candidates - centre[:, None]
    angle = torch.atan2(around[..., 1], around[..., 0]).masked_fill(~keep, float("inf"))
    order = angle.argsort(1)
    ordered = around.gather(1, order[..., None].expand_as(around))
    # the places behind the last corner repeat the first: they add nothing to the area
    place = torch.arange(ordered.shape[1], device=a.device)[None].expand(len(ordered), -1)
    ordered = torch.where((place < count[:, None])[..., None], ordered, ordered[:, :1])
    following = ordered.roll(-1, 1)
    area = (ordered[..., 0] * following[..., 1] - ordered[..., 1] * following[..., 0]).sum(1) / 2
    return torch.where(count >= 3, area.clamp_min(0), 0.0).view(n, m).to(a.dtype)


def _inside(points: Tensor, polygon: Tensor) -> Tensor:
    edge = polygon.roll(-1, 1) - polygon
    offset = points[:, :, None] - polygon[:, None]
    cross = edge[:, None, :, 0] * offset[..., 1] - edge[:, None, :, 1] * offset[..., 0]
    return (cross >= -1e-9).all(-1)


def _crossings(one: Tensor, two: Tensor) -> Tensor:
    """Where edges cross, `[pairs, 16, 2]`; infinity where they do not."""
    p, r = one[:, :, None], (one.roll(-1, 1) - one)[:, :, None]
    q, s = two[:, None], (two.roll(-1, 1) - two)[:, None]
    across = r[..., 0] * s[..., 1] - r[..., 1] * s[..., 0]
    d = q - p
    t = (d[..., 0] * s[..., 1] - d[..., 1] * s[..., 0]) / across
    u = (d[..., 0] * r[..., 1] - d[..., 1] * r[..., 0]) / across
    hit = (across.abs() > 1e-12) & (t >= 0) & (t <= 1) & (u >= 0) & (u <= 1)
    where = p + t[..., None].nan_to_num(0, 0, 0) * r
    return torch.where(hit[..., None], where, float("inf")).flatten(1, 2)


def keep_best(iou: Tensor, threshold: float, limit: int) -> Tensor:
    """Greedy suppression over boxes in order of their score."""
    dropped = torch.zeros(len(iou), dtype=torch.bool, device=iou.device)
    kept: list[int] = []
    for i in range(len(iou)):
        if len(kept) == limit:
            break
        if not bool(dropped[i]):
            kept.append(i)
            dropped |= iou[i] > threshold
    return torch.tensor(kept, dtype=torch.int64)
