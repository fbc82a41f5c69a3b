"""Entropy of spikes: the closed-form table for a normal current, words against steps, taps of a net."""

from __future__ import annotations

import math

import pytest
import torch

from ranvier.errors import ArgumentError, ShapeError
from ranvier.measure import attention_entropy, input_entropy, spike_entropy
from ranvier.models import create_model
from ranvier.neurons import IELIF, LIF, Neuron

TABLE: dict[str, tuple[Neuron, int, float, float]] = {
    "LIF, T = 1": (LIF(), 1, 0.1566, 0.0228), "LIF, T = 2": (LIF(), 2, 0.5144, 0.114),
    "LIF, T = 4": (LIF(), 4, 0.8481, 0.280), "IE-LIF, D = 1": (IELIF(levels=1), 1, 0.8915, 0.309),
    "IE-LIF, D = 2": (IELIF(levels=2), 1, 1.3681, 0.628), "IE-LIF, D = 4": (IELIF(levels=4), 1, 1.8449, 1.261),
    "IE-LIF, D = 8": (IELIF(levels=8), 1, 2.2898, 2.524),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_a_normal_current(name: str) -> None:
    neuron, T, bits, spikes = TABLE[name]
    found = input_entropy(neuron, T)
    assert found.bits == pytest.approx(bits, abs=1e-4) and found.mean_spikes == pytest.approx(spikes, abs=6e-4)


def test_levels_carry_more_than_steps() -> None:
    one, four, levels = (input_entropy(*TABLE[n][:2]).bits for n in ("LIF, T = 1", "LIF, T = 4", "IE-LIF, D = 4"))
    assert one < four < levels


def test_the_levels_of_four() -> None:
    p = torch.tensor([0.5497, 0.0964, 0.0878, 0.0752, 0.1908])
    assert input_entropy(IELIF()).bits == pytest.approx(float(-(p * p.log2()).sum()), abs=2e-3)


def test_measured_entropy_approaches_the_closed_form() -> None:
    torch.manual_seed(0)
    x = torch.randn(200_000, dtype=torch.float64)
    assert spike_entropy(IELIF()(x[None]), 0.25) == pytest.approx(1.8449, abs=5e-3)
    train = LIF()(x.expand(4, -1))
    assert spike_entropy(train) == pytest.approx(0.8481, abs=5e-3)
    assert spike_entropy(train, words=False) == pytest.approx(_binary(float(train.mean())), abs=1e-9)


def _binary(p: float) -> float:
    return -p * math.log2(p) - (1 - p) * math.log2(1 - p)


def test_known_distributions() -> None:
    spikes = torch.tensor([[0.0, 0, 1, 1], [0, 1, 0, 1]])[:, :, None]
    assert spike_entropy(spikes) == 2.0 and spike_entropy(spikes, words=False) == 1.0
    assert spike_entropy(torch.zeros(3, 5)) == 0.0


def test_queries_keys_and_values_of_a_net() -> None:
    model = create_model("max_former_cifar", embed_dim=32, num_heads=2, img_size=16, neuron="ie_lif").train()
    x = torch.rand(4, 3, 16, 16)
    model(x)
    found = attention_entropy(model, x)
    assert len(found) == 6 and all(name.endswith((".q", ".k", ".v")) and h >= 0 for name, h in found.items())
    assert model.training and max(found.values()) > 0.5


def test_bad_input() -> None:
    with pytest.raises(ArgumentError, match="real values"):
        spike_entropy(torch.rand(3, 4))
    with pytest.raises(ArgumentError, match="use words=False"):
        spike_entropy(torch.ones(60, 4))
    with pytest.raises(ShapeError, match="not empty"):
        spike_entropy(torch.zeros(3, 0))
    with pytest.raises(ArgumentError, match="no spiking attention"):
        attention_entropy(create_model("spiking_mlp"), torch.rand(2, 1, 8, 8))
    with pytest.raises(ArgumentError, match="T must be positive"):
        input_entropy(LIF(), 0)
