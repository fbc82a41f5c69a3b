"""A gated recurrent net: the real-valued control for sequences that lie in time."""

from __future__ import annotations

from torch import Tensor, nn

from ranvier.errors import ArgumentError, ShapeError
from ranvier.models.card import ModelCard, Paper
from ranvier.models.classifier import SpikingClassifier
from ranvier.models.registry import register_model
from ranvier.state import Stateful


class CarriedGRU(Stateful):
    """`torch.nn.GRU` on `[T, B, N]` whose hidden values are carried as every other state here."""

    def __init__(self, features: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.gru = nn.GRU(features, hidden, layers)

    def forward(self, x: Tensor) -> Tensor:
        state = self.recall()
        y, last = self.gru(x, None if state is None else state[0].transpose(0, 1).contiguous())
        self.remember((last.transpose(0, 1),))  # samples first, as all carried states
        return y


class GRUClassifier(SpikingClassifier):
    """GRU layers and a linear head at every step (Cho et al., 2014); takes `[T, B, N]`, and images as every classifier.

    Args:
        in_channels, img_size, num_classes, T: as in `SpikingClassifier`; N = in_channels · height · width.
        hidden, layers: of the GRU.
    """

    def __init__(
        self,
        in_channels: int = 28,
        img_size: int | tuple[int, int] = 1,
        num_classes: int = 10,
        T: int = 28,
        hidden: int = 186,
        layers: int = 1,
    ) -> None:
        super().__init__(in_channels, img_size, num_classes, T, "direct")
        for name, value in (("hidden", hidden), ("layers", layers)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ArgumentError(f"{name} must be a positive integer, got {value!r}")
        self.features_in = in_channels * self.img_size[0] * self.img_size[1]
        self.recurrent = CarriedGRU(self.features_in, hidden, layers)
        self.head = nn.Linear(hidden, num_classes)

    def sequence(self, x: Tensor) -> Tensor:
        """`x` as `[T, B, N]`."""
        if x.dim() == 3:
            if x.shape[2] != self.features_in or 0 in x.shape:
                raise ShapeError(f"GRUClassifier takes sequences [T, B, {self.features_in}], got {tuple(x.shape)}")
            return x
        return super().sequence(x).flatten(2)

    def classify(self, x: Tensor) -> Tensor:
        return self.head(self.recurrent(x))


register_model(
    ModelCard(
        name="gru", family="gru", params=122_398, summary="a GRU of the size of the small spiking transformer in time",
        input_shape=(28, 1, 1), num_classes=10, T=28, spike_type="real", spike_driven=False,
        violations=("it has no spikes: the control for sequences in time",),
        paper=Paper(
            "Learning Phrase Representations using RNN Encoder-Decoder", "EMNLP 2014", "arXiv:1406.1078"
        ),
    ),
    GRUClassifier,
)  # fmt: skip
