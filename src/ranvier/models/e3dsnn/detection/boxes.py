"""Boxes (x, y, z, dx, dy, dz, heading), z up, centre in the middle: coding, corners, angles."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def limit_period(angle: Tensor, offset: float = 0.5, period: float = 2 * math.pi) -> Tensor:
    """`angle` moved by whole periods into [−offset · period, (1 − offset) · period)."""
    return angle - (angle / period + offset).floor() * period


def encode_boxes(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Residuals `[..., 7]` of boxes to anchors: (Δx/d, Δy/d, Δz/h, log size ratios, Δheading), d the diagonal."""
    diagonal = anchors[..., 3:5].norm(dim=-1, keepdim=True)
    return torch.cat([
        (boxes[..., :2] - anchors[..., :2]) / diagonal,
        (boxes[..., 2:3] - anchors[..., 2:3]) / anchors[..., 5:6],
        (boxes[..., 3:6].clamp_min(1e-5) / anchors[..., 3:6].clamp_min(1e-5)).log(),
        boxes[..., 6:7] - anchors[..., 6:7],
    ], -1)  # fmt: skip


def decode_boxes(code: Tensor, anchors: Tensor) -> Tensor:
    """The inverse of `encode_boxes`."""
    diagonal = anchors[..., 3:5].norm(dim=-1, keepdim=True)
    return torch.cat([
        code[..., :2] * diagonal + anchors[..., :2],
        code[..., 2:3] * anchors[..., 5:6] + anchors[..., 2:3],
        code[..., 3:6].exp() * anchors[..., 3:6],
        code[..., 6:7] + anchors[..., 6:7],
    ], -1)  # fmt: skip


def rotate_z(points: Tensor, angle: Tensor) -> Tensor:
    """Points `[N, P, 3]` turned about z by `angle` `[N]`."""
    cos, sin = angle.cos()[:, None], angle.sin()[:, None]
    x, y, z = points.unbind(-1)
    return torch.stack([x * cos - y * sin, x * sin + y * cos, z], -1)


def box_corners(boxes: Tensor) -> Tensor:
    """The eight corners of boxes `[N, 7]`: `[N, 8, 3]`."""
    signs = torch.cartesian_prod(*[boxes.new_tensor([-0.5, 0.5])] * 3)
    return rotate_z(signs * boxes[:, None, 3:6], boxes[:, 6]) + boxes[:, None, :3]


def nearest_bev_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU `[N, M]` of the bird's-eye rectangles, each turned to the nearer axis: what anchors are matched by."""
    one, two = _upright(a), _upright(b)
    low = torch.maximum(one[:, None, :2], two[None, :, :2])
    high = torch.minimum(one[:, None, 2:], two[None, :, 2:])
    shared = (high - low).clamp_min(0).prod(-1)
    areas = [(r[:, 2:] - r[:, :2]).prod(-1) for r in (one, two)]
    return shared / (areas[0][:, None] + areas[1][None] - shared).clamp_min(1e-6)


def _upright(boxes: Tensor) -> Tensor:
    turned = limit_period(boxes[:, 6], 0.5, math.pi).abs() >= math.pi / 4
    size = torch.where(turned[:, None], boxes[:, [4, 3]], boxes[:, [3, 4]])
    return torch.cat([boxes[:, :2] - size / 2, boxes[:, :2] + size / 2], 1)
