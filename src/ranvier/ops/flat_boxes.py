"""Boxes in the plane, (x1, y1, x2, y2): overlap, and suppression of the ones that overlap a better one."""

from __future__ import annotations

import torch
from torch import Tensor

from ranvier.errors import ShapeError


def flat_iou(a: Tensor, b: Tensor, paired: bool = False, crowd: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Intersection over union and union of boxes `[N, 4]` and `[M, 4]`, each `[N, M]`; of pairs of rows, `[N]`.

    Args:
        crowd: bool `[M]`: boxes of `b` that are whole crowds, for which the area of `a` stands in for the union (COCO).
    """
    for name, boxes in (("a", a), ("b", b)):
        if boxes.dim() != 2 or boxes.shape[1] != 4:
            raise ShapeError(f"{name} must be boxes [n, 4], got {tuple(boxes.shape)}")
    one, two = (a, b) if paired else (a[:, None], b[None])
    size = (torch.minimum(one[..., 2:], two[..., 2:]) - torch.maximum(one[..., :2], two[..., :2])).clamp_min(0)
    shared = size.prod(-1)
    areas = [(box[..., 2:] - box[..., :2]).prod(-1) for box in (one, two)]
    union = areas[0] + areas[1] - shared
    if crowd is not None:
        union = torch.where(crowd, areas[0].expand_as(union), union)
    return shared / union.clamp_min(1e-9), union


def flat_nms(boxes: Tensor, scores: Tensor, labels: Tensor, threshold: float) -> Tensor:
    """Rows of boxes `[n, 4]` that no kept box of their class and of a higher score overlaps by more than `threshold`.

    Best first; equal scores keep their order. int64.
    """
    order = scores.argsort(descending=True, stable=True)
    iou, _ = flat_iou(boxes[order], boxes[order])
    rivals = (iou > threshold) & (labels[order][:, None] == labels[order][None])
    alive = torch.ones(len(order), dtype=torch.bool)
    table = rivals.cpu()
    for i in range(len(order)):
        if alive[i]:
            alive[i + 1 :] &= ~table[i, i + 1 :]
    return order[alive.to(order.device)]
