from __future__ import annotations

import math

import pytest
import torch

from ranvier.errors import ArgumentError
from ranvier.neurons import ALIF, LIF

pytestmark = pytest.mark.usefixtures("plain_torch")


@pytest.mark.parametrize("reset", ["hard", "soft"])
@pytest.mark.parametrize("decay_input", [True, False])
def test_without_adaptation_it_is_lif(reset: str, decay_input: bool) -> None:
    x = torch.randn(50, 3, 4, dtype=torch.float64) * 2
    arguments = {"tau": 4.0, "reset": reset, "decay_input": decay_input, "v_reset": -0.1}
    assert torch.equal(ALIF(beta=0.0, **arguments).double()(x), LIF(**arguments).double()(x))  # pyright: ignore


def test_the_threshold_rises_by_beta_and_decays() -> None:
    neuron = ALIF(beta=0.5, tau_adaptation=4.0).double()
    x = torch.tensor([9.0, 0.0, 0.0], dtype=torch.float64).view(3, 1, 1) * torch.tensor([1.0, 0, 0]).view(3, 1, 1)
    state, adaptation = neuron.initial_state(x[0]), []
    for x_t in x:
        state = (torch.full_like(state[0], -9.0) if adaptation else state[0], state[1])  # silent after the first spike
        _, state = neuron.step(x_t, state)
        adaptation.append(state[1].item())
    assert adaptation == pytest.approx([1, math.exp(-1 / 4), math.exp(-2 / 4)])


def test_it_fires_less_and_less_under_a_constant_input() -> None:
    x = torch.full((200, 1, 1), 2.5)
    times = ALIF(beta=0.3, tau_adaptation=50.0)(x).flatten().nonzero().flatten().diff()
    assert times[-1] > times[0]
    assert ALIF(beta=0.3)(x).sum() < LIF(reset="soft")(x).sum()


def test_learned_parameters_start_where_the_constants_are() -> None:
    x = torch.randn(50, 3, 4) * 2
    assert torch.equal(ALIF(learn=True)(x), ALIF()(x))


def test_bad_arguments() -> None:
    for bad in ({"beta": -1.0}, {"tau": 0.5}, {"tau_adaptation": 0.0}):
        with pytest.raises(ArgumentError, match=next(iter(bad))):
            ALIF(**bad)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ArgumentError, match="tau must be a number > 1 to be learned"):
        ALIF(tau=1.0, learn=True)
