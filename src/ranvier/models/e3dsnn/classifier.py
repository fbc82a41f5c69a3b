"""E-3DSNN for the classification of shapes."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ranvier.layers.sparse import GlobalAvgPool, SparseTensor, SubmConv3d
from ranvier.layers.sparse.voxelize import Reduce
from ranvier.models.e3dsnn.backbone import E3DSNNBackbone, VoxelNet
from ranvier.models.e3dsnn.blocks import SPIKE_COUNT, Parts, Shortcut, initialise
from ranvier.models.e3dsnn.names import CLASSIFIER
from ranvier.models.official import OfficialNames
from ranvier.neurons import NeuronFactory, NeuronSpec
from ranvier.ops.sparse_conv import Boundary


class E3DSNNClassifier(VoxelNet):
    """Stem, four stages, a linear layer for every voxel, the mean over the voxels of a sample (Qiu et al., AAAI 2025).

    Input as in `VoxelNet`; output per-step logits `[T, B, num_classes]`.

    Args:
        in_channels, num_points, num_classes, T, voxel_size, range, reduce, train_reduce, positions: as in `VoxelNet`.
        embed, channels, depths: of `E3DSNNBackbone`.
        neuron: name or mapping; `{"type": "spike_count", "levels": D}` is the paper's, T × D = 1 × 4.
        shortcut: "membrane" (around potentials, so that only spikes are convolved) or "none".
        fully_spiking: a neuron before the last linear layer too, which otherwise multiplies real values.
        boundary: "ceil" keeps every voxel when a grid is halved, "spconv" drops the last plane of odd extents.
        bn_momentum: 0.01 as released; short trainings need 0.1, or their statistics lag behind.
    """

    def __init__(
        self,
        in_channels: int = 6,
        num_points: int = 8192,
        num_classes: int = 40,
        T: int = 1,
        voxel_size: float | Sequence[float] = 0.01,
        range: Sequence[float] | None = None,
        reduce: Reduce = "mean",
        train_reduce: Reduce | None = None,
        positions: bool = False,
        embed: int = 16,
        channels: Sequence[int] = (16, 32, 64, 128),
        depths: Sequence[int] = (1, 1, 1, 1),
        neuron: NeuronSpec = SPIKE_COUNT,
        shortcut: Shortcut = "membrane",
        fully_spiking: bool = False,
        boundary: Boundary = "ceil",
        bn_momentum: float = 0.01,
    ) -> None:
        super().__init__(in_channels, num_points, num_classes, T, voxel_size, range, reduce, train_reduce, positions)
        parts = Parts(NeuronFactory(neuron), bn_momentum, shortcut, boundary)
        self.memoryless = not parts.neuron(channels=1).state_names
        self.backbone = E3DSNNBackbone(self.voxel_channels, embed, channels, depths, parts)
        self.last = parts.spikes(channels[-1]) if fully_spiking else None
        self.final = SubmConv3d(channels[-1], num_classes, 1, bias=True)
        self.pool = GlobalAvgPool()
        initialise(self)

    def forward(self, x: Tensor | SparseTensor) -> Tensor:
        """Per-step logits `[T, B, num_classes]`."""
        rows, _, steps = self.voxels(x)
        y = self.backbone(rows)[-1]
        y = self.final(y if self.last is None else self.last(y))
        return self.in_steps(self.pool(y), steps)

    def official_names(self) -> OfficialNames:
        """Names in the repository bollossom/E-3DSNN (`classify_seg`), weights in the layout of spconv 2."""
        return CLASSIFIER
