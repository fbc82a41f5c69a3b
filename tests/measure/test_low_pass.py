"""Neurons as low-pass filters in time: chains of them, and three tones through a spiking neuron and a ReLU."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ranvier.measure import spectrum
from ranvier.neurons import LIF


@pytest.mark.parametrize(("beta", "top", "cut"), [(0.25, 0.6, 0.2699), (0.5, 1 / 3, 0.1150), (0.9, 0.0526, 0.0168)])
def test_gain_of_one_neuron(beta: float, top: float, cut: float) -> None:
    neuron = LIF(tau=1 / (1 - beta)).double()
    gain = spectrum.linear_response(neuron, torch.linspace(0, 0.5, 101)).abs()
    assert gain[0].item() == pytest.approx(1) and gain[-1].item() == pytest.approx(top, abs=1e-4)
    assert (gain.diff() < 0).all()
    found = spectrum.cutoff(beta)
    assert found == pytest.approx(cut, abs=1e-4)
    assert spectrum.linear_response(neuron, found).abs().square().item() == pytest.approx(0.5)


@pytest.mark.parametrize("length", [2, 4])
def test_a_chain_multiplies_its_gains(length: int) -> None:
    neuron = LIF(threshold=1e9).double()
    charge = spectrum.membrane(neuron)

    def chain(x: Tensor) -> Tensor:
        for _ in range(length):
            x = charge(x)
        return x

    found = spectrum.response(chain, steps=2048, sequences=32)
    expected = spectrum.linear_response(neuron, found.frequency).abs() ** length
    inner = slice(1, -1)
    error = (found.gain.abs() - expected)[inner].abs() / expected[inner]
    assert error.mean() < 0.03
    assert (expected.diff() < 0).all()


@pytest.mark.parametrize("beta", [0.25, 0.5])
@pytest.mark.parametrize("drive", [3, 5])
def test_three_tones(beta: float, drive: float) -> None:
    """The impulses of a spike train are broad, but after the next neuron's charge they keep less of the high tone.

    For currents of a few times the threshold; a neuron driven much harder fires at almost every step, and then not.
    """
    time = torch.arange(10_000, dtype=torch.float64) / 10_000
    x = drive * sum(torch.sin(2 * math.pi * f * time) for f in (100, 200, 300)) / 3
    tau = 1 / (1 - beta)
    spikes = LIF(tau=tau).double()(x[:, None])[:, 0]
    charge = spectrum.membrane(LIF(tau=tau, threshold=1e9).double())

    def power(y: Tensor) -> Tensor:
        return torch.fft.rfft(y - y.mean()).abs().square()[100:5000:100]  # the harmonics of 100 Hz

    def broad(p: Tensor) -> float:
        return float(p[10:].sum() / p.sum())  # above 1 kHz

    def ratio(y: Tensor) -> float:
        p = power(y)
        return float(p[2] / p[0])  # 300 Hz over 100 Hz

    assert broad(power(spikes)) > 5 * broad(power(x.relu()))
    charged = charge(torch.stack([spikes, x.relu()], 1))
    assert ratio(charged[:, 0]) < ratio(charged[:, 1])
