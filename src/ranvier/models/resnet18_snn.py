"""ResNet-18 with spiking pre-activation blocks, for event frames."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ranvier.encode import Encoder
from ranvier.errors import ArgumentError
from ranvier.layers import over_time
from ranvier.models.card import ModelCard, Reported
from ranvier.models.classifier import SpikingClassifier
from ranvier.models.registry import register_model
from ranvier.models.vgg_snn import COUNTS_ENTER, TIES, TRANSFER_NEURON, TRANSFER_PAPER
from ranvier.neurons import NeuronFactory, NeuronSpec


class PreActivation(nn.Module):
    """BN → neuron → convolution without bias, on `[T, B, C, H, W]`; membrane in, membrane out."""

    def __init__(
        self, in_channels: int, out_channels: int, neuron: NeuronFactory, kernel: int = 3, stride: int = 1
    ) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(in_channels)
        self.neuron = neuron(channels=in_channels)
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return over_time(self.conv, self.neuron(over_time(self.bn, x)))


class PreActivationBlock(nn.Module):
    """Two `PreActivation` of 3×3, added to the input, or to a `PreActivation` of 1×1 of it where the shape changes."""

    def __init__(self, in_channels: int, out_channels: int, neuron: NeuronFactory, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = PreActivation(in_channels, out_channels, neuron, stride=stride)
        self.conv2 = PreActivation(out_channels, out_channels, neuron)
        self.shortcut = None
        if stride != 1 or in_channels != out_channels:
            self.shortcut = PreActivation(in_channels, out_channels, neuron, kernel=1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x)) + (x if self.shortcut is None else self.shortcut(x))


class SpatialMean(nn.Module):
    """The mean over space of `[T, B, C, H, W]`: `[T, B, C]`."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((3, 4))


class PreActivationResNet(SpikingClassifier):
    """Analog stem, stages of `PreActivationBlock` (all but the first halve the image), BN, global mean, linear head.

    The head reads real values: no neuron follows the last block.

    Args:
        in_channels, img_size, num_classes, T, encoder: as in `SpikingClassifier`.
        blocks: blocks of each stage.
        widths: channels of each stage; the stem has those of the first.
        neuron: name or mapping of the neuron.
    """

    head_name = "head"
    transfer_tap = ("pool", "output")

    def __init__(
        self,
        in_channels: int = 2,
        img_size: int | tuple[int, int] = 48,
        num_classes: int = 20,
        T: int = 6,
        blocks: Sequence[int] = (2, 2, 2, 2),
        widths: Sequence[int] = (64, 128, 256, 512),
        neuron: NeuronSpec = TRANSFER_NEURON,
        encoder: str | Mapping[str, Any] | Encoder = "direct",
    ) -> None:
        super().__init__(in_channels, img_size, num_classes, T, encoder)
        for name, values in (("blocks", blocks), ("widths", widths)):
            if not values or any(not isinstance(v, int) or v < 1 for v in values):
                raise ArgumentError(f"{name} must be positive numbers, one a stage, got {values!r}")
        if len(blocks) != len(widths):
            raise ArgumentError(f"widths must be {len(blocks)} numbers, one for each of blocks, got {widths!r}")
        make = NeuronFactory(neuron)
        self.stem = nn.Conv2d(in_channels, widths[0], 3, padding=1, bias=False)
        layers: list[nn.Module] = []
        for number, (count, (before, width)) in enumerate(
            zip(blocks, itertools.pairwise((widths[0], *widths)), strict=True)
        ):
            layers.append(PreActivationBlock(before, width, make, 2 if number else 1))
            layers += [PreActivationBlock(width, width, make) for _ in range(count - 1)]
        self.layers = nn.Sequential(*layers)
        self.norm = nn.BatchNorm2d(widths[-1])
        self.pool = SpatialMean()
        self.head = nn.Linear(widths[-1], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def classify(self, x: Tensor) -> Tensor:
        x = self.layers(over_time(self.stem, x))
        return self.head(self.pool(over_time(self.norm, x)))


register_model(
    ModelCard(
        name="resnet18_snn",
        family="resnet18_snn",
        params=11_177_620,
        summary="ResNet-18 of spiking pre-activation blocks on 48x48 event frames, for CEP-DVS",
        input_shape=(2, 48, 48),
        num_classes=20,
        T=6,
        spike_driven=False,
        violations=(COUNTS_ENTER, "means of real values enter the head"),
        paper=TRANSFER_PAPER,
        code="https://github.com/Brain-Cog-Lab/Transfer-for-DVS",
        reported=(Reported("CEP-DVS, with transfer from its images", 30.50, "figure of the repository", T=6),),
        deviations=(TIES,),
    ),
    PreActivationResNet,
)
