from __future__ import annotations

import torch
from torch import Tensor, nn

from ranvier.bench.observe import sample_of
from ranvier.bench.result import MAX_RASTER_NEURONS, MAX_RASTER_STEPS
from ranvier.data import Samples
from ranvier.neurons import IF, IntegerLIF


class Repeats(nn.Module):
    """Every pixel drives one neuron of threshold 1 at each step; the head passes spikes on."""

    def __init__(self, steps: int, neuron: nn.Module) -> None:
        super().__init__()
        self.steps, self.neuron = steps, neuron

    def forward(self, x: Tensor) -> Tensor:
        return self.neuron(x.flatten(1).expand(self.steps, *x.flatten(1).shape) * 1.0)


class Stored(Samples):
    """Samples of given values."""

    time_first = False

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.labels = x, y

    def batch(self, indices: object) -> tuple[Tensor, Tensor]:
        at = torch.as_tensor(indices)
        return self.x[at], self.labels[at]


def test_rasters_show_the_spikes() -> None:
    image = torch.tensor([[[[1.0, 0.5], [0.0, 1.0]]]])
    net = Repeats(4, IF()).eval()
    # 1.0 fires at every step, 0.5 at every second one, 0 never
    sample = sample_of(net, Stored(image, torch.tensor([3])))
    assert sample.rasters[0].steps == ["1001", "1101", "1001", "1101"]
    assert (sample.target, sample.prediction) == (3, 0)
    assert (sample.image.width, sample.image.height) == (2, 2)
    assert not net.neuron._forward_hooks  # nothing stays behind


def test_integer_neurons_are_shown_as_counts() -> None:
    net = Repeats(1, IntegerLIF(levels=4)).eval()
    image = torch.tensor([[[[1.0, 0.5, 0.0]]]])
    assert sample_of(net, Stored(image, torch.tensor([0]))).rasters[0].steps == ["420"]


def test_rasters_are_bounded() -> None:
    net = Repeats(100, IF()).eval()
    (raster,) = sample_of(net, Stored(torch.rand(1, 1, 32, 32), torch.tensor([0]))).rasters
    assert len(raster.steps) == MAX_RASTER_STEPS and len(raster.steps[0]) == MAX_RASTER_NEURONS
    assert raster.neurons == 1024


def test_event_samples_have_a_picture() -> None:
    class Events(Stored):
        time_first = True

        def batch(self, indices: object) -> tuple[Tensor, Tensor]:
            x, y = super().batch(indices)
            return x.transpose(0, 1), y

    class Sums(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(2)

    sample = sample_of(Sums(), Events(torch.rand(2, 5, 2, 8, 8), torch.tensor([0, 1])), index=1)
    assert (sample.image.width, sample.image.channels, sample.rasters) == (8, 1, [])
