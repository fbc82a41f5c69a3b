"""ResNets and VGG-16 with quantised activations, which become spiking nets by `ranvier.infer.convert_ann`.

Before conversion they are ordinary nets in time: every step is the same function of its frame (T = 1 trains them).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import Tensor, nn

from ranvier.encode import Encoder
from ranvier.errors import ArgumentError
from ranvier.layers.qcfs import QCFS, Folded, LSQReLU
from ranvier.models.card import ModelCard, Paper
from ranvier.models.classifier import SpikingClassifier
from ranvier.models.registry import register_model

Activation = Literal["qcfs", "lsq", "relu"]
Stem = Literal["small", "imagenet"]

VGG16 = (64, 64, "A", 128, 128, "A", 256, 256, 256, "A", 512, 512, 512, "A", 512, 512, 512, "A")


class _Activations:
    """Makes the activations of a net."""

    def __init__(self, kind: Activation, levels: int, start: float) -> None:
        if kind not in ("qcfs", "lsq", "relu"):
            raise ArgumentError(f"activation must be 'qcfs', 'lsq' or 'relu', got {kind!r}")
        bits = (levels + 1).bit_length() - 1
        if kind == "lsq" and 2**bits - 1 != levels:
            raise ArgumentError(f"levels must be 2^bits - 1 for activation 'lsq', got {levels}")
        self.kind, self.levels, self.start, self.bits = kind, levels, start, bits

    def __call__(self) -> nn.Module:
        if self.kind == "relu":
            return nn.ReLU()
        return QCFS(self.levels, self.start) if self.kind == "qcfs" else LSQReLU(self.bits, self.start / self.levels)


class ResidualBlock(nn.Module):
    """A basic or bottleneck block; the activation is behind the sum."""

    def __init__(self, inputs: int, width: int, stride: int, bottleneck: bool, activation: _Activations) -> None:
        super().__init__()
        outputs = width * 4 if bottleneck else width
        shapes = (
            [(inputs, width, 1, 1), (width, width, 3, stride), (width, outputs, 1, 1)] if bottleneck
            else [(inputs, width, 3, stride), (width, width, 3, 1)]
        )  # fmt: skip
        layers: list[nn.Module] = []
        for i, o, kernel, step in shapes:
            layers += [nn.Conv2d(i, o, kernel, step, kernel // 2, bias=False), nn.BatchNorm2d(o), activation()]
        self.residual = nn.Sequential(*layers[:-1])
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self.activation = activation()

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.residual(x) + self.shortcut(x))


class QuantisedNet(SpikingClassifier):
    """A net of quantised activations.

    Args:
        in_channels, img_size, num_classes, T, encoder: as in `SpikingClassifier`.
        layers: blocks a stage of a ResNet, or the layout of a VGG ("A": average pool).
        widths: width of each stage of a ResNet.
        bottleneck: bottleneck blocks, four times as wide at their end.
        stem: "small" is conv 3×3; "imagenet" conv 7×7 of stride 2 and a pool.
        hidden: width of the two hidden linear layers of a VGG.
        width: factor of all widths but `hidden`.
        activation: "qcfs", "lsq" or "relu".
        levels: L of the activation.
        start: its ceiling λ at the start.
    """

    def __init__(
        self, in_channels: int = 3, img_size: int | tuple[int, int] = 32, num_classes: int = 10, T: int = 1,
        layers: Sequence[int | str] = (2, 2, 2, 2), widths: Sequence[int] | None = (64, 128, 256, 512),
        bottleneck: bool = False, stem: Stem = "small", hidden: int = 4096, width: float = 1.0,
        activation: Activation = "qcfs", levels: int = 4, start: float = 8.0,
        encoder: str | Mapping[str, Any] | Encoder = "direct",
    ) -> None:  # fmt: skip
        super().__init__(in_channels, img_size, num_classes, T, encoder)
        make = _Activations(activation, levels, start)
        if widths is None:
            net = self._vgg([n if n == "A" else max(1, round(int(n) * width)) for n in layers], hidden, make)
        else:
            scaled = [max(1, round(n * width)) for n in widths]
            net = self._resnet([int(n) for n in layers], scaled, bottleneck, stem, make)
        self.body = Folded(net)

    def _resnet(
        self, layers: Sequence[int], widths: Sequence[int], bottleneck: bool, stem: Stem, make: _Activations
    ) -> nn.Sequential:
        if len(layers) != len(widths) or not layers or min(layers) < 1:
            raise ArgumentError(f"layers and widths must have one entry a stage, got {list(layers)} and {list(widths)}")
        if stem not in ("small", "imagenet"):
            raise ArgumentError(f"stem must be 'small' or 'imagenet', got {stem!r}")
        kernel, stride = (7, 2) if stem == "imagenet" else (3, 1)
        conv = nn.Conv2d(self.in_channels, widths[0], kernel, stride, kernel // 2, bias=False)
        modules: list[nn.Module] = [conv, nn.BatchNorm2d(widths[0]), make()]
        modules += [nn.AvgPool2d(3, 2, 1)] if stem == "imagenet" else []
        inputs = widths[0]
        for stage, (count, width) in enumerate(zip(layers, widths, strict=True)):
            for block in range(count):
                step = 2 if stage and not block else 1
                modules.append(ResidualBlock(inputs, width, step, bottleneck, make))
                inputs = width * 4 if bottleneck else width
        return nn.Sequential(*modules, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, self.num_classes))

    def _vgg(self, layout: Sequence[int | str], hidden: int, make: _Activations) -> nn.Sequential:
        modules: list[nn.Module] = []
        channels, (height, width) = self.in_channels, self.img_size
        for entry in layout:
            if entry == "A":
                modules.append(nn.AvgPool2d(2))
                height, width = height // 2, width // 2
            elif isinstance(entry, int) and entry > 0:
                modules += [nn.Conv2d(channels, entry, 3, padding=1), nn.BatchNorm2d(entry), make()]
                channels = entry
            else:
                raise ArgumentError(f"layers: expected widths and 'A', got {entry!r}")
        if min(height, width) < 1:
            raise ArgumentError(f"img_size {self.img_size} is too small for {list(layout).count('A')} pools")
        sizes = (channels * height * width, hidden, hidden)
        modules.append(nn.Flatten())
        for inputs in sizes[:2]:
            modules += [nn.Linear(inputs, hidden), make()]
        return nn.Sequential(*modules, nn.Linear(hidden, self.num_classes))

    def classify(self, x: Tensor) -> Tensor:
        return self.body(x)


_PAPER = Paper(
    "Optimal ANN-SNN Conversion for High-accuracy and Ultra-low-latency Spiking Neural Networks", "ICLR 2022"
)
_VIOLATIONS = (
    "activations are levels until the net is converted; pools and the first layer see real values after it too",
)


def _register(name: str, params: int, summary: str, size: int, classes: int, levels: int, **preset: Any) -> None:
    register_model(
        ModelCard(
            name=name, family="qcfs", params=params, summary=summary, input_shape=(3, size, size), num_classes=classes,
            T=1, counting="trainable parameters, without the ceilings of activations", spike_type="real",
            spike_driven=False, violations=_VIOLATIONS, paper=_PAPER, code="https://github.com/putshua/SNN_conversion_QCFS",
            deviations=("the clip is in front of the floor, which changes the gradient only",),
        ),
        QuantisedNet, in_channels=3, img_size=size, num_classes=classes, T=1, levels=levels, **preset,
    )  # fmt: skip


_RESNET = (64, 128, 256, 512)
_register("resnet18_qcfs", 11_173_962, "ResNet-18 for CIFAR", 32, 10, 4, layers=(2, 2, 2, 2), widths=_RESNET)
_register("resnet20_qcfs", 272_474, "ResNet-20 for CIFAR", 32, 10, 4, layers=(3, 3, 3), widths=(16, 32, 64))
_register("vgg16_qcfs", 33_646_666, "VGG-16 for CIFAR", 32, 10, 4, layers=VGG16, widths=None)
_register("vgg16_qcfs_imagenet", 138_365_992, "VGG-16 for ImageNet", 224, 1000, 16, layers=VGG16, widths=None)
_register("resnet34_qcfs", 21_797_672, "ResNet-34 for ImageNet", 224, 1000, 8,
          layers=(3, 4, 6, 3), widths=_RESNET, stem="imagenet")  # fmt: skip
_register("resnet34_qcfs_small_stem", 21_789_992, "ResNet-34 for ImageNet, released stem",
          224, 1000, 8, layers=(3, 4, 6, 3), widths=_RESNET)  # fmt: skip
_register("resnet50_qcfs", 25_557_032, "ResNet-50 for ImageNet", 224, 1000, 16,
          layers=(3, 4, 6, 3), widths=_RESNET, stem="imagenet", bottleneck=True)  # fmt: skip
