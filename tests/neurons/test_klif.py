from __future__ import annotations

import pytest
import torch

from ranvier.errors import ArgumentError
from ranvier.neurons import KLIF, LIF

pytestmark = pytest.mark.usefixtures("plain_torch")


@pytest.mark.parametrize("reset", ["hard", "soft"])
def test_k_of_one_is_lif_while_the_membrane_is_not_negative(reset: str) -> None:
    x = torch.rand(60, 3, 4, dtype=torch.float64) * 3
    assert torch.equal(KLIF(reset=reset).double()(x), LIF(reset=reset).double()(x))  # pyright: ignore


def test_the_membrane_is_scaled_and_never_negative() -> None:
    neuron = KLIF(k=2.0, reset="soft").double()
    x = torch.tensor([-3.0, 0.5, 0.25, 3.0], dtype=torch.float64).view(4, 1, 1)
    state, trace = neuron.initial_state(x[0]), []
    for x_t in x:
        _, state = neuron.step(x_t, state)
        trace.append(state[0].item())
    # 2·(−1.5) → 0;  2·0.25 = 0.5;  2·(0.5 − 0.125) = 0.75;  2·(0.75 + 1.125) = 3.75 fires, minus 1
    assert trace == pytest.approx([0, 0.5, 0.75, 2.75])


def test_gradient_of_k_below_threshold() -> None:
    """One step from rest: h = k x/τ, so ∂h/∂k = x/τ."""
    neuron = KLIF(surrogate={"type": "rectangle", "width": 100.0}).double()
    neuron(torch.full((1, 1, 1), 0.6, dtype=torch.float64)).sum().backward()
    assert neuron.k.grad is not None and neuron.k.grad.item() == pytest.approx(0.3 / 100)


def test_bad_arguments() -> None:
    for bad in (0.0, -1.0, float("nan")):
        with pytest.raises(ArgumentError, match="k must be a positive number"):
            KLIF(k=bad)
    with pytest.raises(ArgumentError, match="channels"):
        KLIF(channels=0)
    with pytest.raises(ArgumentError, match="'hard' or 'soft'"):
        KLIF(reset="none")  # pyright: ignore
