"""The two backbones of the detector: over voxels (z, y, x), and over the bird's-eye view."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError
from ranvier.layers.sparse import SparseConv3d, SparseTensor, SubmConv3d
from ranvier.models.e3dsnn.blocks import Parts, Stage, Stem, initialise
from ranvier.neurons import Neuron, NeuronFactory


class VoxelBackbone8xSpike(nn.Module):
    """Stem, one convolution, three stages (kernel 3, stride 2, padding 1), and a convolution along z.

    Input voxels (z, y, x); gives the potentials of strides 1, 2, 4, 8 and the spikes of the last convolution, whose
    input is real-valued unless `fully_spiking`.
    """

    def __init__(
        self, in_channels: int, embed: int, channels: Sequence[int], out_channels: int, parts: Parts,
        fully_spiking: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        if len(channels) != 3:
            raise ArgumentError(f"channels must be three widths (strides 2, 4 and 8), got {list(channels)!r}")
        c2, c3, c4 = channels
        self.conv_input = Stem(in_channels, embed, parts)
        self.conv1 = nn.Sequential(
            nn.Sequential(parts.spikes(embed), SubmConv3d(embed, embed), parts.norm(embed))
        )  # fmt: skip
        self.conv2, self.conv3, self.conv4 = (
            Stage(a, b, 2, parts) for a, b in ((embed, c2), (c2, c3), (c3, c4))
        )  # fmt: skip
        self.last = parts.spikes(c4) if fully_spiking else None
        self.conv_out = nn.Sequential(
            SparseConv3d(c4, out_channels, (3, 1, 1), (2, 1, 1), boundary=parts.boundary), parts.norm(out_channels),
            parts.spikes(out_channels),
        )  # fmt: skip
        initialise(self)

    def forward(self, x: SparseTensor) -> tuple[SparseTensor, list[SparseTensor]]:
        """Spikes for the bird's-eye view, and the potentials of every stride."""
        levels = [self.conv1(self.conv_input(x))]
        for stage in (self.conv2, self.conv3, self.conv4):
            levels.append(stage(levels[-1]))
        return self.conv_out(levels[-1] if self.last is None else self.last(levels[-1])), levels


class Steps(nn.Module):
    """A neuron on data without a time axis: one step."""

    def __init__(self, neuron: Neuron) -> None:
        super().__init__()
        self.neuron = neuron

    def forward(self, x: Tensor) -> Tensor:
        return self.neuron(x.unsqueeze(0)).squeeze(0)


class BEVBackboneSpike(nn.Module):
    """Two levels of spiking convolutions, brought to one resolution and joined; real-valued output."""

    def __init__(
        self, in_channels: int, make: NeuronFactory, filters: Sequence[int] = (64, 128), layers: Sequence[int] = (5, 5),
        strides: Sequence[int] = (1, 2), up_filters: Sequence[int] = (128, 128), momentum: float = 0.01,
    ) -> None:  # fmt: skip
        super().__init__()
        if not len(filters) == len(layers) == len(strides) == len(up_filters):
            raise ArgumentError("filters, layers, strides and up_filters must be equally many, one a level")

        def norm(channels: int) -> nn.BatchNorm2d:
            return nn.BatchNorm2d(channels, eps=1e-3, momentum=momentum)

        self.blocks, self.deblocks = nn.ModuleList(), nn.ModuleList()
        scale = 1
        for before, c, count, stride, up in zip(
            (in_channels, *filters[:-1]), filters, layers, strides, up_filters, strict=True
        ):
            # where the release pads: zeros are no spikes, so that the convolution may as well do it
            parts: list[nn.Module] = [
                nn.Identity(), Steps(make()), nn.Conv2d(before, c, 3, stride, 1, bias=False), norm(c)
            ]  # fmt: skip
            for _ in range(count):
                parts += [Steps(make()), nn.Conv2d(c, c, 3, padding=1, bias=False), norm(c)]
            self.blocks.append(nn.Sequential(*parts))
            scale *= stride
            self.deblocks.append(
                nn.Sequential(Steps(make()), nn.ConvTranspose2d(c, up, scale, scale, bias=False), norm(up))
            )
        self.out_channels = sum(up_filters)

    def forward(self, x: Tensor) -> Tensor:
        ups: list[Tensor] = []
        for block, deblock in zip(self.blocks, self.deblocks, strict=True):
            x = block(x)
            ups.append(deblock(x))
        return torch.cat(ups, 1)
