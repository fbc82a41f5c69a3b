"""The encoder of E-3DSNN and how its input becomes voxels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError, ShapeError
from ranvier.layers.sparse import SparseTensor, from_dense, voxelize
from ranvier.layers.sparse.voxelize import Reduce
from ranvier.models.cloud import CloudNet
from ranvier.models.e3dsnn.blocks import Parts, Stage, Stem


class E3DSNNBackbone(nn.Module):
    """Stem and stages; gives the membrane potentials of every resolution, finest first.

    Args:
        in_channels: of the voxel features.
        embed: channels of the stem.
        channels, depths: width and number of blocks of every stage; each halves the resolution.
    """

    def __init__(
        self, in_channels: int, embed: int, channels: Sequence[int], depths: Sequence[int], parts: Parts
    ) -> None:  # fmt: skip
        super().__init__()
        if not channels or len(channels) != len(depths) or any(not isinstance(d, int) or d < 0 for d in depths):
            raise ArgumentError(
                f"channels and depths must be equally many, one a stage, got {list(channels)!r} and {list(depths)!r}"
            )
        widths = (embed, *channels)
        if any(not isinstance(c, int) or c < 1 for c in widths):
            raise ArgumentError(f"embed and channels must be positive integers, got {widths}")
        self.stem = Stem(in_channels, embed, parts)
        self.enc = nn.ModuleList(Stage(a, b, d, parts) for a, b, d in zip(widths, channels, depths, strict=False))

    def forward(self, x: SparseTensor) -> list[SparseTensor]:
        levels = [self.stem(x)]
        for stage in self.enc:
            levels.append(stage(levels[-1]))
        return levels


class VoxelNet(CloudNet):
    """Base of the nets that turn clouds into voxels: clouds `[B, N, C]`, grids `[B, C, X, Y, Z]`, or `SparseTensor`.

    Sequences have time first; each of their steps has voxels of its own, so the neuron must be one that carries
    nothing over (`spike_count`, `relu`). A static sample is voxelised once and shown for T steps.

    Args:
        in_channels, num_points, num_classes, T: as in `CloudNet`.
        voxel_size: edge of a voxel in the units of the points.
        range: where points count (lows, highs); None takes all and moves each sample's lowest voxel to the origin.
        reduce: what represents the points of a voxel in evaluation.
        train_reduce: the same in training ("random" as released, None for `reduce`).
        positions: three more channels with the place of each voxel in its sample, from −1 to 1 (for bare grids).
    """

    def __init__(
        self, in_channels: int, num_points: int, num_classes: int, T: int, voxel_size: float | Sequence[float],
        range: Sequence[float] | None, reduce: Reduce, train_reduce: Reduce | None, positions: bool,
    ) -> None:  # fmt: skip
        super().__init__(in_channels, num_points, num_classes, T)
        self.voxel_size, self.range, self.positions = voxel_size, range, positions
        self.reduce: Reduce = reduce
        self.train_reduce: Reduce = reduce if train_reduce is None else train_reduce
        self.memoryless = True

    @property
    def voxel_channels(self) -> int:
        """Channels of a voxel that enters the first convolution."""
        return self.in_channels + (3 if self.positions else 0)

    def has_time(self, x: Tensor) -> bool:
        return x.dim() in (4, 6)

    def voxels(self, x: Tensor | SparseTensor) -> tuple[SparseTensor, Tensor | None, int]:
        """Voxels of `x`, the voxel of every point (for clouds), and how many steps of a sequence they are (0: static).

        The samples of a sequence are those of its first step, then those of the second, and so on.
        """
        if isinstance(x, SparseTensor):
            rows, steps, point2voxel = x, 0, None
        elif x.dim() in (5, 6):
            steps = x.shape[0] if x.dim() == 6 else 0
            rows, point2voxel = from_dense(x.flatten(0, 1) if steps else x), None
        else:
            self.check_clouds(x)
            steps = x.shape[0] if x.dim() == 4 else 0
            flat = x.flatten(0, 1) if steps else x
            batch = torch.arange(len(flat), device=x.device).repeat_interleave(flat.shape[1])
            points = flat.flatten(0, 1)
            rows, point2voxel = voxelize(
                points[:, :3], points, self.voxel_size, self.range,
                self.train_reduce if self.training else self.reduce, batch=batch, batch_size=len(flat),
            )  # fmt: skip
        if rows.channels != self.in_channels:
            raise ShapeError(f"{type(self).__name__} takes {self.in_channels} channels a voxel, got {rows.channels}")
        if steps and not self.memoryless:
            raise ArgumentError(
                f"{type(self).__name__}: a sequence has other voxels at every step, which a neuron with memory cannot "
                "follow; use neuron='spike_count', or static clouds"
            )
        if self.positions:
            rows = rows.replace(torch.cat([rows.feats, _places(rows).expand(*rows.feats.shape[:-1], 3)], -1))
        if not steps and rows.feats.dim() == 2 and self.T > 1 and not self.memoryless:
            rows = rows.replace(rows.feats.expand(self.T, *rows.feats.shape))
        return rows, point2voxel, steps

    def in_steps(self, y: Tensor, steps: int) -> Tensor:
        """Output `[B, ...]`, `[T, B, ...]` or of the samples of a sequence, as `[T, B, ...]`."""
        if steps:
            return y.unflatten(0, (steps, -1))
        return y.expand(self.T, *y.shape) if self.memoryless else y.unsqueeze(0) if self.T == 1 else y


def _places(x: SparseTensor) -> Tensor:
    """Each voxel's place between the lowest and the highest of its sample, −1 to 1, `[n, 3]`."""
    coords = x.coords[:, 1:].to(x.feats.dtype)
    sample = x.coords[:, :1].long().expand(-1, 3)
    shape = (x.batch_size, 3)
    low = coords.new_full(shape, float("inf")).scatter_reduce(0, sample, coords, "amin")
    high = coords.new_full(shape, float("-inf")).scatter_reduce(0, sample, coords, "amax")
    middle, half = (low + high) / 2, ((high - low) / 2).clamp_min(0.5).amax(1, keepdim=True)
    rows = sample[:, 0]
    return (coords - middle[rows]) / half[rows]
