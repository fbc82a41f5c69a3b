"""The detector from points to boxes: two stages, or one without the RoI head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError, DataError, ShapeError
from ranvier.layers.sparse import SparseTensor, to_bev, voxelize
from ranvier.models.dense import Detection
from ranvier.models.e3dsnn.blocks import SPIKE_COUNT, Parts
from ranvier.models.e3dsnn.detection.anchors import AnchorHead, AnchorSettings
from ranvier.models.e3dsnn.detection.backbones import BEVBackboneSpike, VoxelBackbone8xSpike
from ranvier.models.e3dsnn.detection.roi import VoxelRCNNHeadSpike
from ranvier.models.e3dsnn.names import DETECTOR
from ranvier.models.official import OfficialNames
from ranvier.neurons import NeuronFactory, NeuronSpec
from ranvier.ops.box_overlap import nms

KITTI_RANGE = (0.0, -40.0, -3.0, 70.4, 40.0, 1.0)


class E3DSNNDetector(nn.Module):
    """Voxel backbone, bird's-eye backbone, anchor head and RoI head of E-3DSNN on KITTI (Qiu et al., AAAI 2025).

    Takes clouds: a list of `[N, C]` (x, y, z, intensity in metres), or `[B, N, C]`.

    Args:
        in_channels, num_classes: C, and the number of object classes (one anchor setting each).
        voxel_size, range: in metres, x y z; the grid is a multiple of 8 voxels in the plane.
        max_points, max_voxels: of a voxel, and of a cloud in (training, evaluation).
        embed, channels, out_channels: of the voxel backbone; bev: arguments of `BEVBackboneSpike`.
        anchors: settings, or mappings of their fields.
        two_stage: with the RoI head; roi: its arguments.
        score, overlap: what a final detection must exceed, and the overlap at which the lower one of two goes.
        neuron, fully_spiking, bn_momentum: as in `E3DSNNClassifier`.
    """

    def __init__(
        self,
        in_channels: int = 4,
        num_classes: int = 1,
        T: int = 1,
        voxel_size: Sequence[float] = (0.05, 0.05, 0.1),
        range: Sequence[float] = KITTI_RANGE,
        max_points: int = 5,
        max_voxels: tuple[int, int] = (16_000, 40_000),
        embed: int = 16,
        channels: Sequence[int] = (32, 64, 64),
        out_channels: int = 128,
        bev: dict[str, Any] | None = None,
        anchors: Sequence[AnchorSettings | dict[str, Any]] = (AnchorSettings(),),
        two_stage: bool = True,
        roi: dict[str, Any] | None = None,
        score: float = 0.3,
        overlap: float = 0.1,
        neuron: NeuronSpec = SPIKE_COUNT,
        fully_spiking: bool = False,
        bn_momentum: float = 0.01,
    ) -> None:
        super().__init__()
        settings = [a if isinstance(a, AnchorSettings) else AnchorSettings(**a) for a in anchors]
        if len(settings) != num_classes:
            raise ArgumentError(f"anchors must have one setting a class ({num_classes}), got {len(settings)}")
        if T != 1:
            raise ArgumentError(f"T must be 1: every cloud is one step of spike counts, got {T!r}")
        grid = [round((high - low) / s) for low, high, s in zip(range[:3], range[3:], voxel_size, strict=True)]
        if any(g % 8 for g in grid[:2]) or min(grid[:2]) < 8 or grid[2] < 16:
            raise ArgumentError(
                f"range and voxel_size must make a grid of multiples of 8 in x and y and at least 16 in z, got {grid}"
            )
        self.in_channels, self.num_classes, self.T = in_channels, num_classes, T
        self.voxel_size, self.range, self.grid = tuple(voxel_size), tuple(range), tuple(grid)
        self.max_points, self.max_voxels = max_points, max_voxels
        self.score, self.overlap = score, overlap
        make = NeuronFactory(neuron)
        parts = Parts(make, bn_momentum, boundary="spconv", down=(3, 2, 1))
        self.backbone_3d = VoxelBackbone8xSpike(in_channels, embed, channels, out_channels, parts, fully_spiking)
        layers = _extent(_extent(_extent(_extent(grid[2] + 1, 3, 1), 3, 1), 3, 1), 3, 0)
        self.backbone_2d = BEVBackboneSpike(out_channels * layers, make, momentum=bn_momentum, **(bev or {}))
        self.dense_head = AnchorHead(self.backbone_2d.out_channels, range, settings)
        self.roi_head = None
        if two_stage:
            self.roi_head = VoxelRCNNHeadSpike(channels, make, voxel_size, range, **(roi or {}))
        self.num_points = 20_000

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample: `(N, C)`, N as of a KITTI front view."""
        return self.num_points, self.in_channels

    def has_time(self, x: Tensor) -> bool:
        """Never: every cloud is a sample."""
        return False

    def voxels(self, clouds: Sequence[Tensor] | Tensor) -> SparseTensor:
        """Mean voxel features on the grid (z, y, x), one plane higher than the range."""
        given = list(clouds.unbind(0)) if isinstance(clouds, Tensor) else list(clouds)
        if not given:
            raise DataError("there is no cloud to look at")
        for number, cloud in enumerate(given):
            if cloud.dim() != 2 or cloud.shape[1] != self.in_channels:
                raise ShapeError(f"cloud {number} must be [N, {self.in_channels}], got shape {tuple(cloud.shape)}")
        points = torch.cat(given)
        batch = torch.arange(len(given), device=points.device).repeat_interleave(
            torch.tensor([len(c) for c in given], device=points.device)
        )
        x, _ = voxelize(
            points[:, :3], points, self.voxel_size, self.range, "mean", self.max_points, batch=batch,
            batch_size=len(given), max_voxels=self.max_voxels[0 if self.training else 1], order=(2, 1, 0),
        )  # fmt: skip
        gx, gy, gz = self.grid
        x.voxels.shape = (gz + 1, gy, gx)
        return x

    def first_stage(self, clouds: Sequence[Tensor] | Tensor) -> tuple[Tensor, tuple[Tensor, ...], list[SparseTensor]]:
        """The bird's-eye view, what the anchor head says of it, and the voxels of strides 1, 2, 4 and 8."""
        spikes, levels = self.backbone_3d(self.voxels(clouds))
        view = self.backbone_2d(to_bev(spikes))
        return view, self.dense_head(view), levels

    def proposals(self, view: Tensor, outputs: tuple[Tensor, ...], training: bool) -> list[Detection]:
        """The best decoded anchors of every sample, without their near-duplicates."""
        scores, residuals, directions = (t.detach() for t in outputs)
        anchors, _ = self.dense_head.anchors(view.shape[2], view.shape[3], view)
        found: list[Detection] = []
        before, after, overlap = (9000, 512, 0.8) if training else (2048, 100, 0.7)
        for b in torch.arange(len(view)).tolist():
            best, kind = scores[b].max(1)
            rows = best.topk(min(before, len(best))).indices
            boxes = self.dense_head.decode(residuals[b, rows], directions[b, rows], anchors[rows])
            kept = nms(boxes, best[rows], overlap, after)
            found.append(Detection(boxes[kept], best[rows][kept].sigmoid(), kind[rows][kept]))
        return found

    @torch.no_grad()
    def detect(self, clouds: Sequence[Tensor] | Tensor) -> list[Detection]:
        """The objects of every cloud."""
        view, outputs, levels = self.first_stage(clouds)
        proposals = self.proposals(view, outputs, training=False)
        if self.roi_head is None:
            return [self._final(p.boxes, p.scores, p.labels) for p in proposals]
        rois = torch.cat([p.boxes for p in proposals])
        sample = torch.arange(len(proposals), device=rois.device).repeat_interleave(
            torch.tensor([len(p.boxes) for p in proposals], device=rois.device)
        )
        logits, residuals = self.roi_head(levels[1:], rois, sample)
        boxes = self.roi_head.decode(residuals, rois)
        return [
            self._final(boxes[sample == b], logits[sample == b].sigmoid(), p.labels) for b, p in enumerate(proposals)
        ]

    def forward(
        self,
        x: Sequence[Tensor] | Tensor,
        boxes: Sequence[Tensor] | None = None,
        labels: Sequence[Tensor] | None = None,
    ) -> Any:
        """`detect(x)`, or with boxes (and labels) the sum of `loss`."""
        if boxes is None:
            return self.detect(x)
        return torch.stack(list(self.loss(x, boxes, labels).values())).sum()

    def loss(
        self, clouds: Sequence[Tensor] | Tensor, boxes: Sequence[Tensor], labels: Sequence[Tensor] | None = None
    ) -> dict[str, Tensor]:
        """The terms to add up and minimise, of both stages, for clouds with boxes `[n, 7]` and classes `[n]` each."""
        given = [b.reshape(-1, 7) for b in boxes]
        kinds = [torch.zeros(len(b), dtype=torch.int64, device=b.device) for b in given] if labels is None else labels
        if len(given) != len(clouds) or any(len(b) != len(k) for b, k in zip(given, kinds, strict=True)):
            raise ShapeError(f"boxes and labels must be one tensor a cloud ({len(clouds)}), of equal lengths")
        if any(not bool(b.isfinite().all()) or bool((b[:, 3:6] <= 0).any()) for b in given):
            raise DataError("boxes must be finite with positive sizes")
        view, outputs, levels = self.first_stage(clouds)
        losses = self.dense_head.loss(outputs, view, given, list(kinds))  # pyright: ignore[reportArgumentType]
        if self.roi_head is None:
            return losses
        chosen: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        for b, proposal in enumerate(self.proposals(view, outputs, training=True)):
            rows, overlap, which = self.roi_head.choose(proposal.boxes, given[b], 128)
            rois = proposal.boxes[rows]
            matched = given[b][which] if len(given[b]) else rois
            chosen.append((rois, overlap, matched, torch.full((len(rows),), b, device=rois.device)))
        rois, overlap, matched, sample = (torch.cat(parts) for parts in zip(*chosen, strict=True))
        scores, residuals = self.roi_head(levels[1:], rois, sample)
        return losses | self.roi_head.loss(scores, residuals, rois, overlap, matched)

    def _final(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> Detection:
        good = scores > self.score
        boxes, scores, labels = boxes[good], scores[good], labels[good]
        kept = nms(boxes, scores, self.overlap)
        return Detection(boxes[kept], scores[kept], labels[kept])

    def official_names(self) -> OfficialNames:
        """Names in the repository bollossom/E-3DSNN (`det`), weights in the layout of spconv 2."""
        return DETECTOR


def _extent(size: int, kernel: int, padding: int) -> int:
    return (size + 2 * padding - kernel) // 2 + 1
