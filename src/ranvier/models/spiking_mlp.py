"""A spiking multi-layer perceptron."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ranvier.encode import Encoder
from ranvier.errors import ArgumentError
from ranvier.models.card import ModelCard
from ranvier.models.classifier import SpikingClassifier
from ranvier.models.registry import register_model
from ranvier.neurons import NeuronFactory, NeuronSpec


class SpikingMLP(SpikingClassifier):
    """Flatten, then [Linear → BatchNorm → neuron] per hidden width, then a linear readout at every step.

    Args:
        hidden: widths of the hidden layers.
        dropout: probability of dropping a spike in training.
        in_channels, img_size, num_classes, T, encoder: as in `SpikingClassifier`.
        neuron: name or mapping of the neuron.
    """

    def __init__(
        self,
        in_channels: int = 1,
        img_size: int | tuple[int, int] = 8,
        num_classes: int = 10,
        T: int = 4,
        hidden: Sequence[int] = (256, 256),
        dropout: float = 0.0,
        neuron: NeuronSpec = "lif",
        encoder: str | Mapping[str, Any] | Encoder = "direct",
    ) -> None:
        super().__init__(in_channels, img_size, num_classes, T, encoder)
        if not hidden or any(not isinstance(w, int) or w < 1 for w in hidden):
            raise ArgumentError(f"hidden must be a non-empty sequence of positive widths, got {hidden!r}")
        make = NeuronFactory(neuron)
        widths = (in_channels * self.img_size[0] * self.img_size[1], *hidden)
        self.linears = nn.ModuleList(nn.Linear(i, o, bias=False) for i, o in itertools.pairwise(widths))
        self.norms = nn.ModuleList(nn.BatchNorm1d(w) for w in hidden)
        self.neurons = nn.ModuleList(make(channels=w) for w in hidden)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(widths[-1], num_classes)

    def classify(self, x: Tensor) -> Tensor:
        x = x.flatten(2)
        for linear, norm, neuron in zip(self.linears, self.norms, self.neurons, strict=True):
            x = neuron(norm(linear(x).flatten(0, 1)).unflatten(0, x.shape[:2]))
            x = self.dropout(x)
        return self.head(x)


register_model(
    ModelCard(
        name="spiking_mlp",
        family="mlp",
        params=85_514,
        summary="two hidden layers of 256 LIF neurons on 8x8 digits",
        input_shape=(1, 8, 8),
        num_classes=10,
    ),
    SpikingMLP,
)
