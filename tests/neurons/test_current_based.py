from __future__ import annotations

import math

import pytest
import torch

from ranvier.errors import ArgumentError
from ranvier.neurons import IF, CubaLIF

pytestmark = pytest.mark.usefixtures("plain_torch")


def test_impulse_response_is_a_difference_of_exponentials() -> None:
    """v[n] = Σ_{j≤n} b^{n−j} a^j = (a^{n+1} − b^{n+1})/(a − b)."""
    neuron = CubaLIF(tau_synapse=3.0, tau_membrane=7.0, threshold=1e9).double()
    x = torch.zeros(40, 1, 1, dtype=torch.float64)
    x[0] = 1
    state, trace = neuron.initial_state(x[0]), []
    for x_t in x:
        _, state = neuron.step(x_t, state)
        trace.append(state[1].item())
    a, b = math.exp(-1 / 3), math.exp(-1 / 7)
    assert trace == pytest.approx([(a ** (n + 1) - b ** (n + 1)) / (a - b) for n in range(40)], abs=1e-12)


def test_a_synapse_without_memory_and_a_membrane_without_leak_are_if() -> None:
    x = torch.randn(40, 3, 4, dtype=torch.float64)
    neuron = CubaLIF(tau_synapse=1e-3, tau_membrane=1e30).double()
    assert torch.equal(neuron(x), IF(reset="soft").double()(x))


def test_learned_decays_start_where_the_constants_are() -> None:
    fixed, learned = CubaLIF(5.0, 9.0), CubaLIF(5.0, 9.0, learn=True, channels=2)
    for a, b in zip(fixed.decays(), learned.decays(), strict=True):
        assert b.tolist() == pytest.approx([a, a])
    assert [name for name, _ in learned.named_parameters()] == ["synapse", "membrane"]


def test_bad_arguments() -> None:
    with pytest.raises(ArgumentError, match="tau_synapse"):
        CubaLIF(tau_synapse=0.0)
    with pytest.raises(ArgumentError, match="tau_membrane"):
        CubaLIF(tau_membrane=torch.tensor([1.0, 2.0]), learn=True)
