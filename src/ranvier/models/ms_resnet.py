"""MS-ResNet and Max-ResNet: residual nets with membrane shortcuts; the second pools where the first strides."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ranvier.encode import Encoder
from ranvier.errors import ArgumentError
from ranvier.layers import ConvBN, Embed
from ranvier.models.card import ModelCard, Paper, Reported
from ranvier.models.classifier import SpikingClassifier
from ranvier.models.official import OfficialNames
from ranvier.models.registry import register_model
from ranvier.neurons import NeuronFactory, NeuronSpec


class MSBasicBlock(nn.Module):
    """`U + BN(Conv 3×3 (LIF(BN(Conv 3×3 (LIF(U))))))` (Hu et al., MS-ResNet, 2021).

    Args:
        in_channels, out_channels: widths; where they differ, or the block strides, the shortcut is conv 1×1 → BN.
        neuron: factory of the neurons.
        stride: 1 or 2.
        max_pool: replace the stride of the main branch by a max-pool behind the first batch norm (MS-Max block).
        spike_shortcut: put a neuron in front of the shortcut's convolution, which otherwise takes the real-valued
            membrane, as released.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        neuron: NeuronFactory,
        stride: int = 1,
        max_pool: bool = False,
        spike_shortcut: bool = False,
    ) -> None:
        super().__init__()
        pooled = max_pool and stride == 2
        self.conv1 = Embed(
            in_channels, out_channels, neuron, stride=1 if pooled else stride, pool="max" if pooled else None
        )
        self.conv2 = Embed(out_channels, out_channels, neuron)
        self.shortcut = None
        if stride != 1 or in_channels != out_channels:
            front = neuron if spike_shortcut else None
            self.shortcut = Embed(in_channels, out_channels, front, kernel=1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(self.conv1(x))
        return y + (x if self.shortcut is None else self.shortcut(x))


class MSResNet(SpikingClassifier):
    """Analog stem of width 64, stages of `MSBasicBlock`, neuron, global average of the spikes, linear head.

    Args:
        in_channels, img_size, num_classes, T, encoder: as in `SpikingClassifier`.
        blocks: blocks of each stage. Three stages have widths 128, 256, 512, four have 64, 128, 256, 512.
        widths: widths of the stages instead.
        max_pool: Max-ResNet: all stages but the first begin with an MS-Max block (Fang et al., NeurIPS 2025).
        spike_shortcut: neurons in front of the shortcuts' convolutions, so that every layer but the stem gets spikes.
        neuron: name or mapping of the neuron.
    """

    feature_kind = "membrane"

    def __init__(
        self,
        in_channels: int = 3,
        img_size: int | tuple[int, int] = 32,
        num_classes: int = 10,
        T: int = 4,
        blocks: Sequence[int] = (3, 3, 2),
        widths: Sequence[int] | None = None,
        max_pool: bool = False,
        spike_shortcut: bool = False,
        neuron: NeuronSpec = "lif",
        encoder: str | Mapping[str, Any] | Encoder = "direct",
    ) -> None:
        super().__init__(in_channels, img_size, num_classes, T, encoder)
        if not blocks or any(not isinstance(b, int) or b < 1 for b in blocks):
            raise ArgumentError(f"blocks must be positive numbers, one a stage, got {blocks!r}")
        if widths is None:
            if len(blocks) not in (3, 4):
                raise ArgumentError(f"blocks must have three or four stages unless widths are given, got {blocks!r}")
            widths = (64, 128, 256, 512)[-len(blocks) :]
        if len(widths) != len(blocks) or any(not isinstance(w, int) or w < 1 for w in widths):
            raise ArgumentError(f"widths must be {len(blocks)} positive numbers, got {widths!r}")
        make = NeuronFactory(neuron)
        stem = 64 if len(widths) == 4 and widths[0] == 64 else max(1, widths[0] // 2)
        self.stem = ConvBN(in_channels, stem)
        stages: list[nn.Module] = []
        for number, (count, (before, width)) in enumerate(
            zip(blocks, itertools.pairwise((stem, *widths)), strict=True)
        ):
            first = MSBasicBlock(before, width, make, 2 if number else 1, max_pool, spike_shortcut)
            rest = (MSBasicBlock(width, width, make) for _ in range(count - 1))
            stages.append(nn.Sequential(first, *rest))
        self.layers = nn.ModuleList(stages)
        self.neuron = make(channels=widths[-1])
        self.head = nn.Linear(widths[-1], num_classes)

    def features(self, x: Tensor) -> tuple[Tensor, ...]:
        """Membranes `[T, B, C, H, W]` behind every stage of a sequence; strides 1, 2, 4 and so on."""
        x = self.stem(x)
        found: list[Tensor] = []
        for layer in self.layers:
            x = layer(x)
            found.append(x)
        return tuple(found)

    def classify(self, x: Tensor) -> Tensor:
        return self.head(self.neuron(self.features(x)[-1]).mean((3, 4)))

    def official_names(self) -> OfficialNames:
        """Names in the repository bic-L/MaxFormer (`max_resnet.py`)."""
        rules = [
            (r"(conv|bn)1\.(\w+)", r"stem.\1.\2"),
            (r"fc1\.(weight|bias)", r"head.\1"),
        ]
        for n in range(len(self.layers)):
            at, ours = rf"layer{n + 1}\.(\d+)\.", rf"layers.{n}.\1."
            rules += [
                (at + r"(conv|bn)([12])\.(\w+)", ours + r"conv\3.block.\2.\4"),
                (at + r"downsample\.1\.(\w+)", ours + r"shortcut.block.conv.\2"),
                (at + r"downsample\.2\.(\w+)", ours + r"shortcut.block.bn.\2"),
            ]
        return OfficialNames(tuple(rules))


_MAX = Paper("Spiking Neural Networks Need High-Frequency Information", "NeurIPS 2025", "arXiv:2505.18608")
_MS = Paper("Advancing Spiking Neural Networks towards Deep Residual Learning", "TNNLS 2024", "arXiv:2112.08954")
_VIOLATIONS = ("membranes enter the shortcuts' convolutions", "means of spikes enter the head")

for _name, _pool, _paper, _results in (
    ("ms_resnet18", False, _MS, ((94.92, "cifar10"), (76.41, "cifar100"))),
    ("max_resnet18", True, _MAX, ((97.17, "cifar10"), (83.06, "cifar100"))),
):
    register_model(
        ModelCard(
            name=_name,
            family="msresnet",
            params=12_502_090,
            summary="3, 3 and 2 residual blocks up to width 512 on CIFAR" + (", max-pools" if _pool else ""),
            input_shape=(3, 32, 32),
            num_classes=10,
            spike_driven=False,
            violations=_VIOLATIONS,
            paper=_paper,
            code="https://github.com/bic-L/MaxFormer",
            reported=tuple(
                Reported(data, value, "Fang et al., NeurIPS 2025, best test epoch", T=4) for value, data in _results
            ),
            deviations=()
            if _pool
            else ("the published figures of this baseline come from another training recipe than Max-ResNet's",),
        ),
        MSResNet,
        in_channels=3, img_size=32, num_classes=10, T=4, blocks=(3, 3, 2), max_pool=_pool,
    )  # fmt: skip
