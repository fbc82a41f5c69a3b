"""E-3DSNN for semantic segmentation: the encoder, and a decoder of inverse convolutions with skips."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ranvier.errors import ArgumentError, ShapeError
from ranvier.layers.sparse import SparseTensor, SubmConv3d
from ranvier.layers.sparse.voxelize import Reduce
from ranvier.models.e3dsnn.backbone import E3DSNNBackbone, VoxelNet
from ranvier.models.e3dsnn.blocks import SPIKE_COUNT, Parts, Shortcut, Up, initialise
from ranvier.models.e3dsnn.names import SEGMENTOR
from ranvier.models.official import OfficialNames
from ranvier.neurons import NeuronFactory, NeuronSpec
from ranvier.ops.sparse_conv import Boundary


class E3DSNNSegmentor(VoxelNet):
    """A spiking sparse U-Net: every voxel, and so every point, gets logits (Qiu et al., AAAI 2025).

    A batch of clouds `[B, N, C]` gives logits `[T, B, N, num_classes]`, a sequence `[T, B, N, C]` the same. A
    `SparseTensor` (or a grid) gives logits `[T, n, num_classes]`, one row a voxel.

    Args:
        as in `E3DSNNClassifier`; decoder: widths from the finest level to the coarsest.
        inverse: the control without inverse convolutions (see `Up`).
    """

    segments = True

    def __init__(
        self,
        in_channels: int = 4,
        num_points: int = 120_000,
        num_classes: int = 19,
        T: int = 1,
        voxel_size: float | Sequence[float] = 0.05,
        range: Sequence[float] | None = None,
        reduce: Reduce = "mean",
        train_reduce: Reduce | None = None,
        positions: bool = False,
        embed: int = 64,
        channels: Sequence[int] = (64, 128, 128, 256),
        depths: Sequence[int] = (2, 2, 2, 2),
        decoder: Sequence[int] = (256, 256, 256, 256),
        neuron: NeuronSpec = SPIKE_COUNT,
        shortcut: Shortcut = "membrane",
        fully_spiking: bool = False,
        boundary: Boundary = "ceil",
        bn_momentum: float = 0.01,
        inverse: bool = True,
    ) -> None:
        super().__init__(in_channels, num_points, num_classes, T, voxel_size, range, reduce, train_reduce, positions)
        if len(decoder) != len(channels):
            raise ArgumentError(f"decoder must have one width a stage ({len(channels)}), got {list(decoder)!r}")
        parts = Parts(NeuronFactory(neuron), bn_momentum, shortcut, boundary)
        self.memoryless = not parts.neuron(channels=1).state_names
        self.backbone = E3DSNNBackbone(self.voxel_channels, embed, channels, depths, parts)
        below = (*decoder[1:], channels[-1])
        skips = (embed, *channels[:-1])
        self.dec = nn.ModuleList(Up(a, s, b, parts, inverse) for a, s, b in zip(below, skips, decoder, strict=True))
        self.last = parts.spikes(decoder[0]) if fully_spiking else None
        self.final = SubmConv3d(decoder[0], num_classes, 1, bias=True)
        initialise(self)

    def by_voxel(self, rows: SparseTensor) -> SparseTensor:
        """Logits of every voxel."""
        *skips, y = self.backbone(rows)
        for up, skip in zip(reversed(self.dec), reversed(skips), strict=True):
            y = up(y, skip)
        return self.final(y if self.last is None else self.last(y))

    def forward(self, x: Tensor | SparseTensor) -> Tensor:
        """Per-step logits of every point (clouds) or voxel (sparse tensors and grids)."""
        rows, point2voxel, steps = self.voxels(x)
        y = self.by_voxel(rows).feats
        if point2voxel is None:
            if steps:
                raise ShapeError("a sequence of grids has no common voxels; give its steps one by one")
            return self.in_steps(y, 0)
        if bool((point2voxel < 0).any()):
            y = nn.functional.pad(y, (0, 0, 0, 1))  # points out of range: the row of zeros at the end
        y = y[..., point2voxel, :]
        assert isinstance(x, Tensor)
        samples = x.shape[-3] * max(1, steps)
        return self.in_steps(y.unflatten(-2, (samples, -1)), steps)

    def official_names(self) -> OfficialNames:
        """Names in the repository bollossom/E-3DSNN (`classify_seg`), weights in the layout of spconv 2."""
        return SEGMENTOR
