"""The second stage: voxels around a 6 × 6 × 6 grid in every proposal refine its score and its box."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ranvier.layers.sparse import SparseTensor
from ranvier.models.e3dsnn.detection.backbones import Steps
from ranvier.models.e3dsnn.detection.boxes import box_corners, decode_boxes, encode_boxes, limit_period, rotate_z
from ranvier.neurons import NeuronFactory
from ranvier.ops.box_overlap import iou_3d
from ranvier.ops.voxel_query import voxel_query


class VoxelPool(nn.Module):
    """Spike-driven pooling of up to `most` voxels around every place: linear, plus position, MS, max, MS linear."""

    def __init__(
        self, in_channels: int, make: NeuronFactory, reach: int, radius: float, most: int = 16, width: int = 32
    ) -> None:
        super().__init__()
        self.reach, self.radius, self.most = reach, radius, most
        first = [nn.Conv1d(in_channels, width, 1, bias=False), nn.BatchNorm1d(width)]
        place = [nn.Conv2d(3, width, 1, bias=False), nn.BatchNorm2d(width)]
        second = [Steps(make()), nn.Conv1d(width, width, 1, bias=False), nn.BatchNorm1d(width)]
        self.mlps_in = nn.ModuleList([nn.Sequential(*first)])
        self.mlps_pos = nn.ModuleList([nn.Sequential(*place)])
        self.mlps_out = nn.ModuleList([nn.Sequential(*second)])
        self.relu = Steps(make())
        for conv in (first[0], place[0], second[1]):
            nn.init.kaiming_normal_(conv.weight)  # pyright: ignore[reportArgumentType]

    def forward(self, x: SparseTensor, centres: Tensor, cells: Tensor, places: Tensor) -> Tensor:
        """`[q, 32]` for places `[q, 3]` in the voxels `cells` of `x`, whose voxels have `centres`."""
        rows = voxel_query(x.coords, centres, cells, places, self.reach, self.radius, self.most)
        none = rows < 0
        feats = self.mlps_in[0](x.feats.T[None])[0].T
        near = feats[rows.clamp_min(0)].masked_fill(none[..., None], 0.0)
        offset = (centres[rows.clamp_min(0)] - places[:, None]).masked_fill(none[..., None], 0.0)
        position = self.mlps_pos[0](offset.permute(2, 0, 1)[None])[0].permute(1, 2, 0)
        spikes = self.relu(near + position).amax(1)
        return self.mlps_out[0](spikes.T[None])[0].T


class VoxelRCNNHeadSpike(nn.Module):
    """RoI head: `VoxelPool` on strides 2, 4 and 8, shared and separate spike-driven linear layers (Voxel R-CNN's).

    Args:
        channels: of the three strides.
        voxel_size, range: of the finest grid, x y z.
        grid: places along each side of a proposal.
    """

    def __init__(
        self, channels: Sequence[int], make: NeuronFactory, voxel_size: Sequence[float], range: Sequence[float],
        grid: int = 6, width: int = 256, dropout: float = 0.3, pool_width: int = 32,
    ) -> None:  # fmt: skip
        super().__init__()
        self.voxel_size, self.range, self.grid = tuple(voxel_size), tuple(range), grid
        self.roi_grid_pool_layers = nn.ModuleList(
            VoxelPool(c, make, 4, r, width=pool_width) for c, r in zip(channels, (0.4, 0.8, 1.6), strict=True)
        )

        def layer(before: int) -> list[nn.Module]:
            linear = nn.Linear(before, width, bias=False)
            nn.init.xavier_normal_(linear.weight)
            return [Steps(make()), linear, nn.BatchNorm1d(width)]

        features = grid**3 * pool_width * len(channels)
        self.shared_fc_layer = nn.Sequential(*layer(features), nn.Dropout(dropout), *layer(width))
        self.cls_fc_layers = nn.Sequential(*layer(width), nn.Dropout(dropout), *layer(width))
        self.reg_fc_layers = nn.Sequential(*layer(width), nn.Dropout(dropout), *layer(width))
        self.cls_pred_layer, self.reg_pred_layer = nn.Linear(width, 1), nn.Linear(width, 7)
        nn.init.normal_(self.cls_pred_layer.weight, std=0.01)
        nn.init.normal_(self.reg_pred_layer.weight, std=0.001)
        for last in (self.cls_pred_layer, self.reg_pred_layer):
            nn.init.zeros_(last.bias)

    def places(self, rois: Tensor) -> Tensor:
        """The grid of every proposal `[R, 7]`: `[R, grid³, 3]`."""
        cells = torch.cartesian_prod(*[torch.arange(self.grid, device=rois.device, dtype=rois.dtype)] * 3)
        local = ((cells + 0.5) / self.grid - 0.5) * rois[:, None, 3:6]
        return rotate_z(local, rois[:, 6]) + rois[:, None, :3]

    def forward(self, levels: Sequence[SparseTensor], rois: Tensor, sample: Tensor) -> tuple[Tensor, Tensor]:
        """Score logits `[R]` and box residuals `[R, 7]` of proposals `[R, 7]` in the samples `[R]`.

        `levels` are the voxels (z, y, x) at strides 2, 4 and 8.
        """
        places = self.places(rois).flatten(0, 1)
        low, size = rois.new_tensor(self.range[:3]), rois.new_tensor(self.voxel_size)
        finest = ((places - low) / size).floor()
        owner = sample.repeat_interleave(self.grid**3)[:, None]
        pooled: list[Tensor] = []
        for pool, x in zip(self.roi_grid_pool_layers, levels, strict=True):
            stride = rois.new_tensor(x.stride).flip(0)
            cells = torch.cat([owner, (finest / stride).floor().flip(1).long()], 1)
            centres = (x.coords[:, 1:].flip(1).to(rois.dtype) + 0.5) * stride * size + low
            pooled.append(pool(x, centres, cells, places))
        features = torch.cat(pooled, 1).unflatten(0, (len(rois), -1)).flatten(1)
        shared = self.shared_fc_layer(features)
        return self.cls_pred_layer(self.cls_fc_layers(shared))[:, 0], self.reg_pred_layer(self.reg_fc_layers(shared))

    @staticmethod
    def decode(residuals: Tensor, rois: Tensor) -> Tensor:
        """Refined boxes: residuals are in the frame of the proposal."""
        own = torch.cat([torch.zeros_like(rois[:, :3]), rois[:, 3:6], torch.zeros_like(rois[:, 6:])], 1)
        local = decode_boxes(residuals, own)
        centre = rotate_z(local[:, None, :3], rois[:, 6])[:, 0] + rois[:, :3]
        return torch.cat([centre, local[:, 3:6], local[:, 6:] + rois[:, 6:]], 1)

    @staticmethod
    def choose(rois: Tensor, boxes: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Up to `count` proposals to train on, half of them on objects: rows, their best overlap, and its box."""
        if not len(boxes):
            rows = torch.randperm(len(rois), device=rois.device)[:count]
            return rows, rois.new_zeros(len(rows)), torch.zeros_like(rows)
        overlap, which = iou_3d(rois, boxes).max(1)
        groups = (
            (overlap >= 0.55).nonzero().flatten(),
            ((overlap < 0.55) & (overlap >= 0.1)).nonzero().flatten(),
            (overlap < 0.1).nonzero().flatten(),
        )
        shuffled = [g[torch.randperm(len(g), device=g.device)] for g in groups]
        front = shuffled[0][: count // 2]
        room = count - len(front)
        hard = shuffled[1][: room if not len(shuffled[2]) else max(int(room * 0.8), room - len(shuffled[2]))]
        rows = torch.cat([front, hard, shuffled[2][: room - len(hard)]])
        return rows, overlap[rows], which[rows]

    def loss(
        self, scores: Tensor, residuals: Tensor, rois: Tensor, overlap: Tensor, boxes: Tensor
    ) -> dict[str, Tensor]:
        """Cross-entropy with the overlap as soft target; smooth L1 and corner distance where it exceeds 0.55.

        `boxes` `[R, 7]` are the boxes that the proposals overlap most.
        """
        wanted = ((overlap - 0.25) / 0.5).clamp(0, 1)
        result = {"roi_cls": F.binary_cross_entropy_with_logits(scores, wanted)}
        good = overlap > 0.55
        result["roi_box"] = result["roi_corner"] = scores.new_zeros(())
        if bool(good.any()):
            own, mine, code = rois[good], boxes[good], residuals[good]
            at = torch.cat([torch.zeros_like(own[:, :3]), own[:, 3:6], torch.zeros_like(own[:, 6:])], 1)
            local = rotate_z((mine[:, :3] - own[:, :3])[:, None], -own[:, 6])[:, 0]
            # an object that faces the other way is refined as if it did not: the anchors decide the way
            turn = limit_period(mine[:, 6] - own[:, 6], 0.5, math.pi)
            target = encode_boxes(torch.cat([local, mine[:, 3:6], turn[:, None]], 1), at)
            result["roi_box"] = F.smooth_l1_loss(code, target, beta=1 / 9, reduction="sum") / len(own)
            refined = self.decode(code, own)
            flipped = torch.cat([mine[:, :6], mine[:, 6:] + math.pi], 1)
            distance = torch.minimum(
                (box_corners(refined) - box_corners(mine)).norm(dim=2),
                (box_corners(refined) - box_corners(flipped)).norm(dim=2),
            )
            result["roi_corner"] = F.smooth_l1_loss(distance, torch.zeros_like(distance), beta=1.0)
        return result
