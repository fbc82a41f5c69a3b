"""Dense prediction at anchors: scores, boxes and directions, their targets and losses, and proposals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ranvier.models.e3dsnn.detection.boxes import decode_boxes, encode_boxes, limit_period, nearest_bev_iou


@dataclass(frozen=True)
class AnchorSettings:
    """One class: size (dx, dy, dz) in metres, z of the bottom, headings, and the overlaps that decide."""

    size: tuple[float, float, float] = (3.9, 1.6, 1.56)
    bottom: float = -1.78
    headings: tuple[float, ...] = (0.0, 1.57)
    matched: float = 0.6
    unmatched: float = 0.45


class AnchorHead(nn.Module):
    """Three 1 × 1 convolutions on the (real-valued) view: scores, box residuals, and which way a box faces.

    Args:
        in_channels: of the view.
        range: lows and highs of x, y, z in metres.
        anchors: one setting a class.
        direction_offset: angle at which the two direction bins meet.
    """

    def __init__(
        self, in_channels: int, range: Sequence[float], anchors: Sequence[AnchorSettings],
        direction_offset: float = 0.78539,
    ) -> None:  # fmt: skip
        super().__init__()
        self.range, self.settings, self.direction_offset = tuple(range), tuple(anchors), direction_offset
        self.num_classes = len(self.settings)
        self.per_place = sum(len(a.headings) for a in self.settings)
        self.conv_cls = nn.Conv2d(in_channels, self.per_place * self.num_classes, 1)
        self.conv_box = nn.Conv2d(in_channels, self.per_place * 7, 1)
        self.conv_dir_cls = nn.Conv2d(in_channels, self.per_place * 2, 1)
        nn.init.constant_(self.conv_cls.bias, -math.log(99.0))  # pyright: ignore[reportArgumentType]
        nn.init.normal_(self.conv_box.weight, std=0.001)

    def anchors(self, height: int, width: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Anchors `[H · W · per_place, 7]` of a view, and the class of each."""
        x0, y0, _, x1, y1, _ = self.range
        xs = torch.linspace(x0, x1, width, dtype=like.dtype, device=like.device)
        ys = torch.linspace(y0, y1, height, dtype=like.dtype, device=like.device)
        kinds = [
            (*a.size, heading, a.bottom + a.size[2] / 2, c)
            for c, a in enumerate(self.settings)
            for heading in a.headings
        ]
        table = like.new_tensor(kinds)
        grid_y, grid_x = torch.meshgrid(ys, xs, indexing="ij")
        places = torch.stack([grid_x, grid_y], -1)[:, :, None].expand(-1, -1, len(kinds), -1)
        rest = table.expand(height, width, -1, -1)
        boxes = torch.cat([places, rest[..., 4:5], rest[..., :3], rest[..., 3:4]], -1)
        return boxes.flatten(0, 2), rest[..., 5].flatten().long()

    def forward(self, view: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits `[B, A, classes]`, residuals `[B, A, 7]` and direction logits `[B, A, 2]` of all anchors."""
        scores, boxes, directions = (
            conv(view).permute(0, 2, 3, 1).reshape(len(view), -1, size)
            for conv, size in ((self.conv_cls, self.num_classes), (self.conv_box, 7), (self.conv_dir_cls, 2))
        )
        return scores, boxes, directions

    def decode(self, residuals: Tensor, directions: Tensor, anchors: Tensor) -> Tensor:
        """Boxes `[B, A, 7]`: the residual gives the axis, the direction bin the way along it."""
        boxes = decode_boxes(residuals, anchors)
        turn = limit_period(boxes[..., 6] - self.direction_offset, 0.0, math.pi)
        heading = turn + self.direction_offset + math.pi * directions.argmax(-1).to(boxes.dtype)
        return torch.cat([boxes[..., :6], limit_period(heading)[..., None]], -1)

    def assign(self, anchors: Tensor, kinds: Tensor, boxes: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """For every anchor its class + 1 (0: background, −1: left out) and the row of its box.

        An anchor is positive above the matched overlap, or when it is the best one of a box.
        """
        target = torch.zeros(len(anchors), dtype=torch.int64, device=anchors.device)
        row = torch.zeros_like(target)
        for c, setting in enumerate(self.settings):
            own, mine = (kinds == c).nonzero().flatten(), (labels == c).nonzero().flatten()
            if not len(mine):
                continue
            iou = nearest_bev_iou(anchors[own], boxes[mine])
            best, which = iou.max(1)
            chosen = torch.zeros_like(own)
            chosen[best >= setting.unmatched] = -1
            chosen[best >= setting.matched] = c + 1
            most = iou.amax(0)
            forced = ((iou == most) & (most > 0)).nonzero()
            chosen[forced[:, 0]] = c + 1
            which[forced[:, 0]] = forced[:, 1]
            target[own], row[own] = chosen, mine[which]
        return target, row

    def loss(
        self, outputs: tuple[Tensor, Tensor, Tensor], view: Tensor, boxes: list[Tensor], labels: list[Tensor]
    ) -> dict[str, Tensor]:  # fmt: skip
        """Focal loss (α ¼, γ 2), smooth L1 (β 1/9, headings by their sine) × 2, direction × 0.2; each per positive."""
        scores, residuals, directions = outputs
        anchors, kinds = self.anchors(view.shape[2], view.shape[3], view)
        total = {name: view.new_zeros(()) for name in ("anchor_cls", "anchor_box", "anchor_dir")}
        for b, (own, classes) in enumerate(zip(boxes, labels, strict=True)):
            target, row = self.assign(anchors, kinds, own, classes)
            counts, positive = target >= 0, target > 0
            weight = 1 / max(1, int(positive.sum()))
            wanted = F.one_hot(target.clamp_min(0), self.num_classes + 1)[:, 1:].to(view.dtype)
            total["anchor_cls"] = total["anchor_cls"] + _focal(scores[b][counts], wanted[counts]).sum() * weight
            if not bool(positive.any()):
                continue
            matched, at = own[row[positive]], anchors[positive]
            code, given = encode_boxes(matched, at), residuals[b][positive]
            turned = [torch.sin(given[:, 6] - code[:, 6])[:, None], torch.zeros_like(code[:, :1])]
            box = F.smooth_l1_loss(
                torch.cat([given[:, :6], turned[0]], 1), torch.cat([code[:, :6], turned[1]], 1), beta=1 / 9,
                reduction="sum",
            )  # fmt: skip
            total["anchor_box"] = total["anchor_box"] + 2.0 * box * weight
            way = limit_period(matched[:, 6] - self.direction_offset, 0.0) >= math.pi
            facing = F.cross_entropy(directions[b][positive], way.long(), reduction="sum")
            total["anchor_dir"] = total["anchor_dir"] + 0.2 * facing * weight
        return {name: value / len(boxes) for name, value in total.items()}


def _focal(logits: Tensor, target: Tensor) -> Tensor:
    p = torch.sigmoid(logits)
    weight = target * 0.25 * (1 - p).square() + (1 - target) * 0.75 * p.square()
    return weight * F.binary_cross_entropy_with_logits(logits, target, reduction="none")
