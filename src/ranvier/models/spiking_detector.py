"""Detection in images without anchors: any backbone of the library, a spiking pyramid, boxes at every place."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ranvier.encode import Encoder
from ranvier.errors import DataError, ShapeError
from ranvier.layers import Embed
from ranvier.models.card import ModelCard, Paper
from ranvier.models.dense import Backbone, Detection, Pyramid
from ranvier.models.registry import register_model
from ranvier.neurons import NeuronFactory, NeuronSpec
from ranvier.ops.flat_boxes import flat_iou, flat_nms

CENTRE = 1.5  # strides around the middle of a box in which places learn it
REACH = 8.0  # strides from a place to the farthest side of a box of its level


class SpikingDetector(nn.Module):
    """FCOS (Tian et al., 2019) on a spiking pyramid: each place says what is there and how far its sides are.

    Heads get spikes; their potentials are averaged over time. A place learns the smallest box around it whose middle
    is near and whose size suits the level; the score is the class probability, trained to be the overlap of the
    predicted box (in place of FCOS's centre-ness).

    Images `[B, C, H, W]` or sequences `[T, B, C, H, W]`; see `DetectionNet`.

    Args:
        in_channels, img_size, num_classes, T, encoder, neuron: as in `SpikingClassifier`.
        backbone, backbone_args, levels, width: as in `SpikingSegmentor`.
        score, overlap, most: of `detect`: the least score, the overlap at which the lower one of two boxes of a class
            goes, and the largest number of detections of an image.
    """

    def __init__(
        self,
        in_channels: int = 1,
        img_size: int | tuple[int, int] = 64,
        num_classes: int = 10,
        T: int = 4,
        backbone: str = "spiking_conv_net",
        backbone_args: Mapping[str, Any] | None = None,
        levels: int | None = 2,
        width: int = 48,
        score: float = 0.05,
        overlap: float = 0.6,
        most: int = 100,
        neuron: NeuronSpec = "lif",
        encoder: str | Mapping[str, Any] | Encoder = "direct",
    ) -> None:
        super().__init__()
        self.backbone = Backbone(
            backbone, backbone_args, levels, in_channels=in_channels, img_size=img_size, T=T, neuron=neuron,
            encoder=encoder,
        )  # fmt: skip
        make = NeuronFactory(neuron)
        self.pyramid = Pyramid(self.backbone.channels, width, make, self.backbone.membrane)
        self.tower = nn.ModuleList(Embed(width, width, make) for _ in self.backbone.strides)
        self.neurons = nn.ModuleList(make(channels=width) for _ in self.backbone.strides)
        self.classes = nn.Conv2d(width, num_classes, 3, padding=1)
        self.sides = nn.Conv2d(width, 4, 3, padding=1)
        self.scales = nn.Parameter(torch.ones(len(self.backbone.strides)))
        for head in (self.classes, self.sides):
            nn.init.normal_(head.weight, std=0.01)
        assert self.classes.bias is not None and self.sides.bias is not None
        nn.init.constant_(self.classes.bias, -math.log(99.0))
        nn.init.constant_(self.sides.bias, math.log(2.0))  # at the start a box reaches two strides to every side
        self.num_classes, self.T, self.score, self.overlap, self.most = num_classes, T, score, overlap, most

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample: `(C, H, W)`."""
        return self.backbone.net.input_shape

    def predict(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Logits `[B, P, K]`, boxes `[B, P, 4]`, and of the P places the centres `[P, 2]` (x, y) and strides `[P]`."""
        logits: list[Tensor] = []
        sides: list[Tensor] = []
        places: list[Tensor] = []
        strides: list[Tensor] = []
        levels = self.pyramid(self.backbone(x))
        for number, (level, stride) in enumerate(zip(levels, self.backbone.strides, strict=True)):
            spikes = self.neurons[number](self.tower[number](level))
            found, far = (over_mean(head, spikes) for head in (self.classes, self.sides))
            ys, xs = (torch.arange(n, device=x.device) for n in found.shape[-2:])
            grid = torch.stack(torch.meshgrid(ys, xs, indexing="ij")[::-1], -1).flatten(0, 1)
            places.append((grid.to(found.dtype) + 0.5) * stride)
            strides.append(torch.full((len(grid),), float(stride), device=x.device, dtype=found.dtype))
            logits.append(found.flatten(2).transpose(1, 2))
            distance = (self.scales[number] * far.flatten(2).transpose(1, 2)).clamp(max=8).exp() * stride
            sides.append(distance)
        centre, reach = torch.cat(places), torch.cat(sides, 1)
        boxes = torch.cat([centre - reach[..., :2], centre + reach[..., 2:]], -1)
        return torch.cat(logits, 1), boxes, centre, torch.cat(strides)

    def assign(self, centre: Tensor, stride: Tensor, boxes: Tensor) -> Tensor:
        """The row of the box that every place learns, or −1."""
        if not len(boxes):
            return torch.full((len(centre),), -1, dtype=torch.int64, device=centre.device)
        far = torch.cat([centre[:, None] - boxes[None, :, :2], boxes[None, :, 2:] - centre[:, None]], -1)
        inside = far.amin(-1) > 0
        middle = (boxes[:, :2] + boxes[:, 2:]) / 2
        near = (centre[:, None] - middle[None]).abs().amax(-1) < CENTRE * stride[:, None]
        largest, steps = far.amax(-1), stride.unique()
        least = torch.where(stride == steps[0], 0.0, stride / 2 * REACH)
        most = torch.where(stride == steps[-1], math.inf, stride * REACH)
        suits = (largest >= least[:, None]) & (largest < most[:, None])
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        size = torch.where(inside & near & suits, area[None], math.inf)
        best, row = size.min(1)
        return torch.where(best.isfinite(), row, -1)

    def loss(
        self, clouds: Tensor, boxes: Sequence[Tensor], labels: Sequence[Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Quality focal loss of the classes (Li et al., 2020) and generalised IoU of the boxes, per positive place.

        `clouds` are the images, `boxes` `[n, 4]` and `labels` `[n]` of each.
        """
        logits, found, centre, stride = self.predict(clouds)
        if labels is None or not len(boxes) == len(labels) == len(logits):
            raise ShapeError(f"boxes and labels must be one tensor an image ({len(logits)})")
        wanted = torch.zeros_like(logits)
        box = logits.new_zeros(())
        positive = 0
        for b, (own, kinds) in enumerate(zip(boxes, labels, strict=True)):
            if len(own) and (not bool(own.isfinite().all()) or not bool((own[:, 2:] > own[:, :2]).all())):
                raise DataError(f"boxes of image {b} must be finite with x1 < x2 and y1 < y2")
            row = self.assign(centre, stride, own)
            chosen = (row >= 0).nonzero().flatten()
            if not len(chosen):
                continue
            target, mine = own[row[chosen]], found[b, chosen]
            iou, gap = _paired(mine, target)
            box = box + (1 - iou + gap).sum()
            wanted[b, chosen, kinds[row[chosen]]] = iou.detach().clamp(0, 1)
            positive += len(chosen)
        p = logits.sigmoid()
        focal = (wanted - p).abs().square() * F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
        return {"classes": focal.sum() / max(1, positive), "boxes": box / max(1, positive)}

    @torch.no_grad()
    def detect(self, clouds: Tensor) -> list[Detection]:
        """The objects of every image, boxes cut to it."""
        logits, boxes, _, _ = self.predict(clouds)
        height, width = clouds.shape[-2:]
        limit = boxes.new_tensor([width, height, width, height])
        result: list[Detection] = []
        for scores, own in zip(logits.sigmoid(), boxes.clamp_min(0).minimum(limit), strict=True):
            place, kind = (scores > self.score).nonzero(as_tuple=True)
            value = scores[place, kind]
            if len(value) > 10 * self.most:
                value, top = value.topk(10 * self.most)
                place, kind = place[top], kind[top]
            kept = flat_nms(own[place], value, kind, self.overlap)[: self.most]
            result.append(Detection(own[place[kept]], value[kept], kind[kept]))
        return result

    def forward(self, x: Tensor, boxes: Sequence[Tensor] | None = None, labels: Sequence[Tensor] | None = None) -> Any:
        """`detect(x)`, or with boxes and labels the sum of `loss`."""
        if boxes is None:
            return self.detect(x)
        return torch.stack(list(self.loss(x, boxes, labels).values())).sum()


def over_mean(head: nn.Module, spikes: Tensor) -> Tensor:
    """The mean over time of a convolution of spikes `[T, B, C, H, W]`."""
    return head(spikes.flatten(0, 1)).unflatten(0, spikes.shape[:2]).mean(0)


def _paired(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """IoU of the pairs of rows of `[n, 4]`, and the share of their hull that neither fills."""
    iou, union = flat_iou(a, b, paired=True)
    low, high = torch.minimum(a[:, :2], b[:, :2]), torch.maximum(a[:, 2:], b[:, 2:])
    hull = (high - low).prod(1).clamp_min(1e-9)
    return iou, (hull - union) / hull


register_model(
    ModelCard(
        name="spiking_fpn_detector", family="fpn_detector", params=117_600, input_shape=(1, 64, 64), num_classes=10,
        summary="three convolutions, a spiking pyramid, anchor-free heads; any backbone", task="detection",
        paper=Paper("FCOS: Fully Convolutional One-Stage Object Detection", "ICCV 2019", "arXiv:1904.01355"),
        deviations=("the class score is trained to be the overlap, in place of centre-ness; one shared tower layer",),
    ),
    SpikingDetector,
)  # fmt: skip
