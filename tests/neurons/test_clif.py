from __future__ import annotations

import math

import pytest
import torch

from ranvier.neurons import CLIF, LIF

pytestmark = pytest.mark.usefixtures("plain_torch")


def test_the_first_spike_takes_sigma_of_one_more() -> None:
    neuron = CLIF().double()
    x = torch.full((1, 1), 5.0, dtype=torch.float64)
    s, (v, m) = neuron.step(x, neuron.initial_state(x))
    assert (s.item(), m.item()) == (1, 1)
    assert 5 - 1 - v.item() == pytest.approx(0.7311, abs=5e-5)
    assert 5 - 1 - v.item() == pytest.approx(1 / (1 + math.exp(-1)), abs=1e-12)


def test_without_a_spike_it_is_lif_without_decay_of_the_input() -> None:
    x = torch.rand(30, 2, 3, dtype=torch.float64) * 0.4
    neuron = CLIF().double()
    _, state = neuron.scan(x, None, True)
    _, lif = LIF(decay_input=False).double().scan(x, None, True)
    assert state is not None and lif is not None
    torch.testing.assert_close(state[0], lif[0])
    assert state[1].abs().sum() == 0


def test_two_spikes_by_hand() -> None:
    def sigma(z: float) -> float:
        return 1 / (1 + math.exp(-z))

    neuron = CLIF(tau=2.0).double()
    x = torch.full((2, 1, 1), 3.0, dtype=torch.float64)
    _, state = neuron.scan(x, None, True)
    v1 = 3 - 1 - sigma(1)
    h2 = v1 / 2 + 3
    m2 = sigma(h2 / 2) + 1
    assert state is not None
    assert state[0].item() == pytest.approx(h2 - 1 - sigma(m2), abs=1e-12)
    assert state[1].item() == pytest.approx(m2, abs=1e-12)


@pytest.mark.parametrize("detach", [True, False])
def test_the_complementary_path_passes_gradient_even_with_a_detached_reset(detach: bool) -> None:
    """v = h − s (θ + σ(m)) with m = s = 1: ∂v/∂h = 1 − g σ'(1), and g (θ + σ(1)) less when the reset is attached."""
    neuron = CLIF(detach_reset=detach, surrogate="rectangle").double()
    x = torch.full((1, 1), 1.2, dtype=torch.float64, requires_grad=True)  # inside the rectangle, where g = 1
    _, (v, _) = neuron.step(x, neuron.initial_state(x))
    sigma = 1 / (1 + math.exp(-1))
    want = 1 - sigma * (1 - sigma) - (0 if detach else 1 + sigma)
    assert torch.autograd.grad(v.sum(), x)[0].item() == pytest.approx(want, abs=1e-12)


def test_the_threshold_is_an_argument() -> None:
    x = torch.full((1, 1, 1), 0.7)
    assert CLIF(threshold=0.5)(x).item() == 1 and CLIF()(x).item() == 0
