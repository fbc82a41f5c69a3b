"""Readouts over time, in losses and in decisions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from ranvier.errors import ArgumentError, ConfigError
from ranvier.train import cross_entropy, evaluate, parse_recipe
from ranvier.train.readout import READOUTS, read_out, running

BASE = {"name": "a", "data": {"name": "digits"}, "model": {"name": "spiking_mlp"}}


def test_values() -> None:
    logits = torch.randn(7, 3, 4, dtype=torch.float64)
    torch.testing.assert_close(read_out(logits, "softmax_sum"), sum(torch.softmax(u, -1) for u in logits))
    assert torch.equal(read_out(logits, "max"), logits.max(0).values)
    assert torch.equal(read_out(logits, "last"), logits[-1])
    torch.testing.assert_close(read_out(logits, "sum"), 7 * read_out(logits))
    with pytest.raises(ArgumentError, match="readout must be one of"):
        read_out(logits, "median")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ArgumentError, match="readout must be one of"):
        running(logits, "median")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("readout", READOUTS)
def test_running_decisions_end_as_the_readout(readout: str) -> None:
    logits = torch.randn(7, 30, 4, dtype=torch.float64)
    steps = running(logits, readout)  # pyright: ignore[reportArgumentType]
    for t in (1, 4, 7):
        wanted = read_out(logits[:t], readout).argmax(-1)  # pyright: ignore[reportArgumentType]
        assert torch.equal(steps[t - 1].argmax(-1), wanted)


def test_a_uniform_readout() -> None:
    T, C = 9, 5
    logits = torch.full((T, 2, C), 0.7)
    torch.testing.assert_close(read_out(logits, "softmax_sum"), torch.full((2, C), T / C))
    loss = cross_entropy(logits, torch.tensor([0, 3]), readout="softmax_sum")
    assert float(loss) == pytest.approx(math.log(C), rel=1e-6)


class Fixed(nn.Module):
    """Gives the same outputs over time whatever comes in."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, x: Tensor) -> Tensor:
        return self.logits.unsqueeze(1).expand(-1, len(x), -1)


def test_evaluation_decides_by_the_readout() -> None:
    net = Fixed(torch.tensor([[5.0, 0.0], [0.0, 1.0], [0.0, 1.0]]))
    data = TensorDataset(torch.zeros(4, 1), torch.ones(4, dtype=torch.int64))
    assert evaluate(net, data).accuracy == 0
    # softmaxes of class 1: 0.007, then 0.731 twice: ahead after the third step
    assert evaluate(net, data, readout="softmax_sum").accuracy_by_step == (0, 0, 0)
    assert evaluate(net, data, readout="last").accuracy_by_step == (0, 1, 1)
    assert evaluate(net, data, readout="max").accuracy == 0


def test_recipes_check_it() -> None:
    assert parse_recipe({**BASE, "train": {"readout": "softmax_sum"}}).train.readout == "softmax_sum"
    with pytest.raises(ConfigError, match=r"train\.readout"):
        parse_recipe({**BASE, "train": {"readout": "median"}})
    with pytest.raises(ConfigError, match="tet judges every step"):
        parse_recipe({**BASE, "train": {"readout": "max", "loss": "tet"}})
