"""Overlap of rotated boxes, and suppression of the ones that overlap a better one."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ranvier.errors import ArgumentError, ShapeError
from ranvier.ops.backend import use_kernels
from ranvier.ops.box_overlap import reference

__all__ = ["bev_intersection", "bev_iou", "iou_3d", "nms"]


def bev_intersection(a: Tensor, b: Tensor) -> Tensor:
    """Area that rectangles share: `[N, 5]` and `[M, 5]` (x, y, dx, dy, heading in radians) to `[N, M]`.

    No gradient. On the CPU by a compiled clip of polygons, elsewhere in plain torch.
    """
    _check(a, 5, "a")
    _check(b, 5, "b")
    if a.device.type == "cpu" and use_kernels("cpu"):
        from ranvier.ops.box_overlap.numba_cpu import intersections

        out = np.empty((len(a), len(b)))
        intersections(a.detach().double().numpy(), b.detach().double().numpy(), out)
        return torch.from_numpy(out).to(a.dtype)
    return reference.bev_intersection(a.detach(), b.detach())


def bev_iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of rectangles, `[N, 5]` and `[M, 5]` to `[N, M]`."""
    shared = bev_intersection(a, b)
    union = (a[:, 2] * a[:, 3])[:, None] + (b[:, 2] * b[:, 3])[None] - shared
    return shared / union.clamp_min(1e-9)


def iou_3d(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of upright boxes, `[N, 7]` and `[M, 7]` (x, y, z, dx, dy, dz, heading), to `[N, M]`.

    (x, y, z) is the centre.
    """
    _check(a, 7, "a")
    _check(b, 7, "b")
    flat = [0, 1, 3, 4, 6]
    high = torch.minimum((a[:, 2] + a[:, 5] / 2)[:, None], (b[:, 2] + b[:, 5] / 2)[None])
    low = torch.maximum((a[:, 2] - a[:, 5] / 2)[:, None], (b[:, 2] - b[:, 5] / 2)[None])
    shared = bev_intersection(a[:, flat], b[:, flat]) * (high - low).clamp_min(0)
    union = a[:, 3:6].prod(1)[:, None] + b[:, 3:6].prod(1)[None] - shared
    return shared / union.clamp_min(1e-9)


def nms(boxes: Tensor, scores: Tensor, threshold: float, limit: int | None = None) -> Tensor:
    """Rows of boxes `[N, 7]` that no kept box of a higher score overlaps by a bird's-eye IoU above `threshold`.

    Best first, at most `limit`; equal scores keep their order. int64.
    """
    _check(boxes, 7, "boxes")
    if scores.shape != (len(boxes),):
        raise ShapeError(f"scores must be [{len(boxes)}], got shape {tuple(scores.shape)}")
    if not 0 <= threshold <= 1:
        raise ArgumentError(f"threshold must lie in [0, 1], got {threshold!r}")
    order = torch.argsort(scores.detach(), descending=True, stable=True)
    flat = boxes.detach()[order][:, [0, 1, 3, 4, 6]]
    most = len(boxes) if limit is None else limit
    if flat.device.type == "cpu" and use_kernels("cpu"):
        from ranvier.ops.box_overlap.numba_cpu import keep_best

        kept = np.empty(len(flat), np.int64)
        count = keep_best(flat.double().numpy(), threshold, most, kept)
        return order[torch.from_numpy(kept[:count])]
    return order[reference.keep_best(bev_iou(flat, flat), threshold, most).to(order.device)]


def _check(boxes: Tensor, columns: int, name: str) -> None:
    if boxes.dim() != 2 or boxes.shape[1] != columns:
        raise ShapeError(f"{name} must be [N, {columns}], got shape {tuple(boxes.shape)}")
    if not bool(boxes.isfinite().all()):
        raise ArgumentError(f"{name} must be finite")
