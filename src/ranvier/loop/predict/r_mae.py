"""R-MAE: masked pre-training of a LiDAR encoder in three dimensions, with the mask about the sensor."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ranvier.errors import ArgumentError, ShapeError
from ranvier.layers.sparse import BatchNorm, SparseConv3d, SparseTensor, SubmConv3d


def radial_voxel_mask(
    coords: Tensor, origin: tuple[float, float], ratio: float = 0.8, width_deg: float = 1.0, *,
    ranged: bool = False, batch_size: int | None = None, generator: torch.Generator | None = None,
) -> Tensor:  # fmt: skip
    """Which voxels are kept: int((1 − ratio) G) of the G angular groups that hold any, drawn for each sample anew.

    Args:
        coords: integers `[n, 4]` (sample, z, y, x).
        origin: the sensor in voxels (y, x); azimuth and distance are about it.
        ratio: share of the groups that is masked.
        width_deg: width of a group in degrees.
        ranged: inside kept groups keep 1 − ratio of the voxels up to 30 voxels away, 0.2 more up to 50, 0.4 more
            beyond.

    If fewer than a tenth of a sample's voxels remain, a tenth is kept at random. Returns bool `[n]`.
    """
    if coords.dim() != 2 or coords.shape[1] != 4:
        raise ShapeError(f"coords must be [n, 4] (sample, z, y, x), got {tuple(coords.shape)}")
    if not 0 <= ratio < 1 or not 0 < width_deg <= 360:
        raise ArgumentError(f"ratio must be in [0, 1) and width_deg in (0, 360], got {ratio} and {width_deg}")
    y, x = coords[:, 2].double() + 0.5 - origin[0], coords[:, 3].double() + 0.5 - origin[1]
    group = torch.floor((torch.atan2(y, x) + math.pi) / math.radians(width_deg)).long()
    away = torch.sqrt(x * x + y * y)
    keep = torch.zeros(len(coords), dtype=torch.bool)
    for sample in range(int(coords[:, 0].max()) + 1 if batch_size is None and len(coords) else batch_size or 0):
        rows = (coords[:, 0] == sample).nonzero()[:, 0]
        groups = group[rows].unique()
        kept = groups[torch.randperm(len(groups), generator=generator)[: int((1 - ratio) * len(groups) + 1e-9)]]
        chosen = torch.isin(group[rows], kept)
        if ranged:
            share = (1 - ratio) + torch.where(away[rows] > 50, 0.4, torch.where(away[rows] > 30, 0.2, 0.0))
            chosen &= torch.rand(len(rows), generator=generator, dtype=torch.float64) < share
        if int(chosen.sum()) < 0.1 * len(rows):
            chosen = torch.zeros_like(chosen)
            chosen[torch.randperm(len(rows), generator=generator)[: math.ceil(0.1 * len(rows))]] = True
        keep[rows] = chosen
    return keep


class _Block(nn.Module):
    def __init__(self, conv: nn.Module, channels: int) -> None:
        super().__init__()
        self.conv, self.norm = conv, BatchNorm(channels, eps=1e-3, momentum=0.01)

    def forward(self, x: SparseTensor) -> SparseTensor:
        return self.norm(self.conv(x)).map(F.relu)


def _stage(inputs: int, outputs: int, padding: int | tuple[int, int, int] = 1) -> list[nn.Module]:
    down = SparseConv3d(inputs, outputs, 3, 2, padding, boundary="spconv")
    return [_Block(down, outputs), *(_Block(SubmConv3d(outputs, outputs), outputs) for _ in range(2))]


class RMAE(nn.Module):
    """Sparse encoder and dense decoder of R-MAE (Tayebati et al. 2024): 829,672 parameters with 4 input features.

    The decoder gives a logit of occupancy for every voxel of the grid, trained with binary cross-entropy against all
    of them. A grid has `spatial_shape` (z, y, x) = (41, 8 a, 8 b); 41 layers as in the usual LiDAR detectors.
    """

    def __init__(self, in_channels: int = 4) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            _Block(SubmConv3d(in_channels, 16), 16), _Block(SubmConv3d(16, 16), 16), *_stage(16, 32), *_stage(32, 64),
            *_stage(64, 64, (0, 1, 1)),
            _Block(SparseConv3d(64, 128, (3, 1, 1), (2, 1, 1), 0, boundary="spconv"), 128),
        )  # fmt: skip

        def up(inputs: int, outputs: int, stride: tuple[int, int, int]) -> nn.Module:
            room = (stride[0] - 1, stride[1] - 1, stride[2] - 1)
            return nn.ConvTranspose3d(inputs, outputs, 3, stride, 1, room, bias=False)

        self.decoder = nn.Sequential(
            up(128, 32, (2, 2, 2)), nn.BatchNorm3d(32, eps=1e-3, momentum=0.01), nn.ReLU(),
            up(32, 8, (4, 2, 2)), nn.BatchNorm3d(8, eps=1e-3, momentum=0.01), nn.ReLU(),
            up(8, 1, (3, 2, 2)),
        )  # fmt: skip

    def forward(self, x: SparseTensor) -> Tensor:
        """Kept voxels to occupancy logits `[B, z, y, x]` of the whole grid."""
        shape = x.spatial_shape
        if shape is None or len(shape) != 3 or shape[0] != 41 or shape[1] % 8 or shape[2] % 8:
            raise ShapeError(f"R-MAE needs a grid (41, 8 a, 8 b), got {shape}")
        logits = self.decoder(self.encoder(x).dense())[:, 0]
        return logits[:, : shape[0], : shape[1], : shape[2]]

    def loss(self, x: SparseTensor, keep: Tensor) -> Tensor:
        """Masked pre-training: the kept voxels go in, the occupancy of all voxels is asked for."""
        seen = SparseTensor(x.feats[keep], x.coords[keep], x.spatial_shape, x.batch_size)
        full = SparseTensor(torch.ones(len(x), 1), x.coords, x.spatial_shape, x.batch_size).dense()[:, 0]
        return F.binary_cross_entropy_with_logits(self(seen), full)
