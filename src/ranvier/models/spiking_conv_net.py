"""A small spiking convolutional net."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ranvier.encode import Encoder
from ranvier.errors import ArgumentError
from ranvier.layers import ConvBNNeuron
from ranvier.models.card import ModelCard
from ranvier.models.classifier import SpikingClassifier
from ranvier.models.registry import register_model
from ranvier.neurons import NeuronFactory, NeuronSpec


class SpikingConvNet(SpikingClassifier):
    """[Conv 3×3 → BatchNorm → neuron → max-pool 2] per width, a hidden linear layer of neurons, a linear readout.

    Args:
        channels: widths of the convolutions; each halves the image.
        hidden: width of the hidden linear layer, 0 for none.
        in_channels, img_size, num_classes, T, encoder: as in `SpikingClassifier`.
        neuron: name or mapping of the neuron.
    """

    feature_kind = "spikes"

    def __init__(
        self,
        in_channels: int = 1,
        img_size: int | tuple[int, int] = 28,
        num_classes: int = 10,
        T: int = 4,
        channels: Sequence[int] = (16, 32),
        hidden: int = 128,
        neuron: NeuronSpec = "lif",
        encoder: str | Mapping[str, Any] | Encoder = "direct",
    ) -> None:
        super().__init__(in_channels, img_size, num_classes, T, encoder)
        if not channels or any(not isinstance(c, int) or c < 1 for c in channels):
            raise ArgumentError(f"channels must be a non-empty sequence of positive widths, got {channels!r}")
        height, width = (s >> len(channels) for s in self.img_size)
        if height < 1 or width < 1:
            raise ArgumentError(
                f"img_size {self.img_size} is too small for {len(channels)} poolings; give fewer channels"
            )
        make = NeuronFactory(neuron)
        widths = (in_channels, *channels)
        self.convs = nn.Sequential(
            *(ConvBNNeuron(i, o, make, pool=nn.MaxPool2d(2)) for i, o in itertools.pairwise(widths))
        )
        features = channels[-1] * height * width
        self.hidden = None
        if hidden:
            self.hidden = nn.Linear(features, hidden, bias=False)
            self.norm = nn.BatchNorm1d(hidden)
            self.neuron = make(channels=hidden)
            features = hidden
        self.head = nn.Linear(features, num_classes)

    def features(self, x: Tensor) -> tuple[Tensor, ...]:
        """Spikes `[T, B, C, H, W]` behind every pooling of a sequence; strides 2, 4 and so on."""
        found: list[Tensor] = []
        for conv in self.convs:
            x = conv(x)
            found.append(x)
        return tuple(found)

    def classify(self, x: Tensor) -> Tensor:
        x = self.features(x)[-1].flatten(2)
        if self.hidden is not None:
            x = self.neuron(self.norm(self.hidden(x).flatten(0, 1)).unflatten(0, x.shape[:2]))
        return self.head(x)


register_model(
    ModelCard(
        name="spiking_conv_net",
        family="convnet",
        params=207_098,
        summary="two spiking convolutions and a hidden layer on 28x28 images",
        input_shape=(1, 28, 28),
        num_classes=10,
    ),
    SpikingConvNet,
)
