"""The small spiking net for N-Omniglot: two convolutions and a hidden layer, without normalisation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ranvier.encode import Encoder
from ranvier.errors import ArgumentError
from ranvier.layers import over_time
from ranvier.models.card import ModelCard
from ranvier.models.classifier import SpikingClassifier
from ranvier.models.registry import register_model
from ranvier.models.vgg_snn import AVERAGES_ENTER, COUNTS_ENTER, TIES, TRANSFER_PAPER
from ranvier.neurons import NeuronFactory, NeuronSpec

_NEURON: dict[str, Any] = {
    "type": "lif", "tau": 2.0, "threshold": 0.5, "surrogate": {"type": "rectangle", "width": 1.0},
}  # fmt: skip


class OmniglotSCNN(SpikingClassifier):
    """[Conv 5×5 without bias and padding → neuron → average pool 2] twice, linear → neuron, linear readout.

    Args:
        channels: of the two convolutions.
        hidden: width of the hidden layer.
        in_channels, img_size, num_classes, T, encoder: as in `SpikingClassifier`.
        neuron: name or mapping of the neuron.
    """

    head_name = "head"
    transfer_tap = ("neuron3", "membrane")

    def __init__(
        self,
        in_channels: int = 2,
        img_size: int | tuple[int, int] = 28,
        num_classes: int = 1623,
        T: int = 12,
        channels: Sequence[int] = (15, 40),
        hidden: int = 300,
        neuron: NeuronSpec = _NEURON,
        encoder: str | Mapping[str, Any] | Encoder = "direct",
    ) -> None:
        super().__init__(in_channels, img_size, num_classes, T, encoder)
        if len(channels) != 2 or any(not isinstance(c, int) or c < 1 for c in channels):
            raise ArgumentError(f"channels must be two positive numbers, got {channels!r}")
        if not isinstance(hidden, int) or hidden < 1:
            raise ArgumentError(f"hidden must be a positive number, got {hidden!r}")
        height, width = (((s - 4) // 2 - 4) // 2 for s in self.img_size)
        if height < 1 or width < 1:
            raise ArgumentError(f"img_size {self.img_size} is too small: two convolutions of 5x5 need 16 pixels")
        make = NeuronFactory(neuron)
        first, second = channels
        self.conv1 = nn.Conv2d(in_channels, first, 5, bias=False)
        self.neuron1 = make(channels=first)
        self.conv2 = nn.Conv2d(first, second, 5, bias=False)
        self.neuron2 = make(channels=second)
        self.pool = nn.AvgPool2d(2)
        self.hidden = nn.Linear(second * height * width, hidden)
        self.neuron3 = make(channels=hidden)
        self.head = nn.Linear(hidden, num_classes)
        for conv in (self.conv1, self.conv2):
            nn.init.kaiming_normal_(conv.weight)
        for linear in (self.hidden, self.head):
            nn.init.uniform_(linear.weight, -0.1, 0.1)
            nn.init.uniform_(linear.bias, -0.1, 0.1)

    def classify(self, x: Tensor) -> Tensor:
        x = over_time(self.pool, self.neuron1(over_time(self.conv1, x)))
        x = over_time(self.pool, self.neuron2(over_time(self.conv2, x)))
        return self.head(self.neuron3(self.hidden(x.flatten(2))))


register_model(
    ModelCard(
        name="scnn_omniglot",
        family="scnn_omniglot",
        params=696_573,
        summary="two spiking convolutions and 300 hidden neurons on 28x28 event frames, for N-Omniglot",
        input_shape=(2, 28, 28),
        num_classes=1623,
        T=12,
        spike_driven=False,
        violations=(COUNTS_ENTER, AVERAGES_ENTER),
        paper=TRANSFER_PAPER,
        code="https://github.com/Brain-Cog-Lab/Transfer-for-DVS",
        deviations=(TIES, "the edges of the surrogate's box are part of it"),
    ),
    OmniglotSCNN,
)
