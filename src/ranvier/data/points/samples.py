"""Samples that are clouds `[N, C]` or voxel grids `[C, X, Y, Z]`."""

from __future__ import annotations

import torch
from torch import Tensor

from ranvier.data.samples import Indices, Samples, as_index
from ranvier.errors import DataError, ShapeError


class CloudSamples(Samples):
    """Clouds of equally many points in memory, float32 `[samples, N, C]`; a batch is `[B, N, C]`."""

    def __init__(self, clouds: Tensor, labels: Tensor) -> None:
        if clouds.dim() != 3 or labels.dim() != 1 or len(clouds) != len(labels):
            raise ShapeError(
                f"clouds must be [samples, N, C] with labels [samples], got {tuple(clouds.shape)} and "
                f"{tuple(labels.shape)}"
            )
        if not bool(clouds.isfinite().all()):
            sample = int((~clouds.isfinite()).nonzero()[0, 0])
            raise DataError(f"cloud {sample} holds points that are not finite")
        self.clouds, self.labels, self.time_first = clouds, labels.to(torch.int64), False

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        index = as_index(indices, len(self))
        return self.clouds[index].to(torch.float32), self.labels[index]


class GridSamples(Samples):
    """Voxel grids in memory, `[samples, C, X, Y, Z]` of small integers; a batch is float32 `values / scale`."""

    def __init__(self, grids: Tensor, labels: Tensor, scale: float = 1.0) -> None:
        if grids.dim() != 5 or labels.dim() != 1 or len(grids) != len(labels):
            raise ShapeError(
                f"grids must be [samples, C, X, Y, Z] with labels [samples], got {tuple(grids.shape)} and "
                f"{tuple(labels.shape)}"
            )
        self.grids, self.labels, self.scale, self.time_first = grids, labels.to(torch.int64), scale, False

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        index = as_index(indices, len(self))
        return self.grids[index].to(torch.float32).div_(self.scale), self.labels[index]


def normalise_to_sphere(points: Tensor) -> Tensor:
    """Points `[..., N, 3]` moved to their mean and scaled so that the farthest lies on the unit sphere."""
    centred = points - points.mean(-2, keepdim=True)
    return centred / centred.norm(dim=-1).amax(-1)[..., None, None].clamp_min(1e-9)
