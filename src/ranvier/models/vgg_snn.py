"""VGG-SNN: the plain spiking net of eight convolutions on event frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ranvier.encode import Encoder
from ranvier.errors import ArgumentError
from ranvier.layers import ConvBNNeuron
from ranvier.models.card import ModelCard, Paper, Reported
from ranvier.models.classifier import SpikingClassifier
from ranvier.models.registry import register_model
from ranvier.neurons import NeuronFactory, NeuronSpec

TRANSFER_PAPER = Paper(
    "An Efficient Knowledge Transfer Strategy for Spiking Neural Networks from Static to Event Domain", "AAAI 2024",
    "arXiv:2303.13077",
)  # fmt: skip
TRANSFER_NEURON: dict[str, Any] = {
    "type": "lif", "tau": 2.0, "threshold": 0.5, "surrogate": {"type": "triangle", "alpha": 2.0},
}  # fmt: skip
COUNTS_ENTER = "the first convolution gets counts of events"
AVERAGES_ENTER = "averages of spikes over squares enter the layers behind a pool"
TIES = "fires at the threshold, not only above it"


class VGGSNN(SpikingClassifier):
    """[Conv 3×3 → BN → neuron] per width, an average pool of 2 behind some, a linear readout of each step's spikes.

    Args:
        widths: channels of the convolutions.
        pools: numbers (from 0) of the convolutions with an average pool behind their neuron.
        in_channels, img_size, num_classes, T, encoder: as in `SpikingClassifier`.
        neuron: name or mapping of the neuron.
    """

    head_name = "head"

    def __init__(
        self,
        in_channels: int = 2,
        img_size: int | tuple[int, int] = 48,
        num_classes: int = 101,
        T: int = 10,
        widths: Sequence[int] = (64, 128, 256, 256, 512, 512, 512, 512),
        pools: Sequence[int] = (1, 3, 5, 7),
        neuron: NeuronSpec = TRANSFER_NEURON,
        encoder: str | Mapping[str, Any] | Encoder = "direct",
    ) -> None:
        super().__init__(in_channels, img_size, num_classes, T, encoder)
        if not widths or any(not isinstance(w, int) or w < 1 for w in widths):
            raise ArgumentError(f"widths must be a non-empty sequence of positive numbers, got {widths!r}")
        if len(set(pools)) != len(pools) or any(p not in range(len(widths)) for p in pools):
            raise ArgumentError(f"pools must be distinct numbers from 0 to {len(widths) - 1}, got {pools!r}")
        height, width = (s >> len(pools) for s in self.img_size)
        if height < 1 or width < 1:
            raise ArgumentError(f"img_size {self.img_size} is too small for {len(pools)} poolings; give fewer pools")
        make = NeuronFactory(neuron)
        self.blocks = nn.ModuleList(
            ConvBNNeuron(before, out, make, pool=nn.AvgPool2d(2) if number in pools else None)
            for number, (before, out) in enumerate(zip((in_channels, *widths), widths, strict=False))
        )
        self.head = nn.Linear(widths[-1] * height * width, num_classes)

    @property
    def transfer_tap(self) -> tuple[str, str]:
        """The membrane of the last convolution's neurons, in front of the last pool."""
        return f"blocks.{len(self.blocks) - 1}.neuron", "membrane"

    def classify(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.head(x.flatten(2))


register_model(
    ModelCard(
        name="vgg_snn",
        family="vgg_snn",
        params=9_688_165,
        summary="eight spiking convolutions on 48x48 event frames, for N-Caltech101",
        input_shape=(2, 48, 48),
        num_classes=101,
        T=10,
        spike_driven=False,
        violations=(COUNTS_ENTER, AVERAGES_ENTER),
        paper=TRANSFER_PAPER,
        code="https://github.com/Brain-Cog-Lab/Transfer-for-DVS",
        reported=(
            Reported("N-Caltech101, trained on events alone", 79.66, "figure of the repository", T=10),
            Reported("N-Caltech101, with transfer from Caltech101", 92.64, "figure of the repository", T=10),
        ),
        deviations=(TIES,),
    ),
    VGGSNN,
)
