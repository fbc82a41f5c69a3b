"""What is measured: nets around a neuron, with the same layers and weights whatever library the neuron comes from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

FEATURES, CHANNELS, SIDE = 512, 16, 16
Factory = Callable[[], nn.Module]


class OverTime(nn.Module):
    """Stateless layers on all steps at once."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def _block(i: int, o: int, neuron: Factory) -> list[nn.Module]:
    return [OverTime(nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o)), neuron()]


def _net(neuron: Factory) -> nn.Module:
    return nn.Sequential(
        *_block(2, CHANNELS, neuron), OverTime(nn.AvgPool2d(2)), *_block(CHANNELS, 2 * CHANNELS, neuron),
        OverTime(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(2 * CHANNELS * (SIDE // 4) ** 2, 128)), neuron(),
        OverTime(nn.Linear(128, 10)),
    )  # fmt: skip


@dataclass(frozen=True)
class Problem:
    """A net, the shape of one sample's step, and its neurons (elements a step and sample)."""

    build: Callable[[Factory], nn.Module]
    sample: tuple[int, ...]
    neurons: int


PROBLEMS: dict[str, Problem] = {
    "neuron": Problem(lambda neuron: neuron(), (FEATURES,), FEATURES),
    "linear": Problem(lambda neuron: nn.Sequential(nn.Linear(FEATURES, FEATURES), neuron()), (FEATURES,), FEATURES),
    "conv": Problem(
        lambda neuron: nn.Sequential(*_block(CHANNELS, CHANNELS, neuron)), (CHANNELS, SIDE, SIDE), CHANNELS * SIDE**2
    ),
    "net": Problem(_net, (2, SIDE, SIDE), CHANNELS * SIDE**2 + 2 * CHANNELS * (SIDE // 2) ** 2 + 128),
}


def make(problem: Problem, neuron: Factory) -> nn.Module:
    """The net, with the same weights for every neuron."""
    torch.manual_seed(0)
    return problem.build(neuron)


def data(problem: Problem, steps: int, batch: int) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """An input, and the gradient that comes back for an output like the given one."""
    x = torch.randn(steps, batch, *problem.sample, generator=torch.Generator().manual_seed(1)) * 2

    def upstream(y: Tensor) -> Tensor:
        return torch.randn(y.shape, generator=torch.Generator().manual_seed(2))

    return x, upstream
