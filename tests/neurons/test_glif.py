from __future__ import annotations

import pytest
import torch

from ranvier.errors import ArgumentError
from ranvier.neurons import GLIF

pytestmark = pytest.mark.usefixtures("plain_torch")


def test_closed_gates_are_a_linear_leak_and_a_soft_reset() -> None:
    neuron = GLIF(gates=(0, 0, 0), learn_gates=False).double()
    x = torch.randn(50, 2, 3, dtype=torch.float64)
    u = torch.zeros_like(x[0])
    o = torch.zeros_like(u)
    want = []
    for x_t in x:
        u = u - 0.0625 + x_t - 0.5 * o
        o = (u >= 0.5).double()
        want.append(o)
    spikes, state = neuron.scan(x, None, True)
    assert torch.equal(spikes, torch.stack(want)) and 0 < spikes.mean() < 1
    assert state is not None
    torch.testing.assert_close(state[0], u, atol=1e-6, rtol=0)


def test_open_gates_are_an_exponential_leak_and_a_hard_reset() -> None:
    neuron = GLIF(gates=(1, 1, 1), learn_gates=False).double()
    x = torch.randn(50, 2, 3, dtype=torch.float64) * 2
    u = torch.zeros_like(x[0])
    o = torch.zeros_like(u)
    want = []
    for x_t in x:
        u = 0.25 * u * (1 - o) + 0.5 * x_t
        o = (u >= 0.5).double()
        want.append(o)
    assert torch.equal(neuron(x), torch.stack(want))


def test_gates_start_where_they_are_put_and_learn() -> None:
    neuron = GLIF(channels=3)
    for gate, start in ((neuron.alpha, 0.55), (neuron.beta, 0.65), (neuron.gamma, 0.55)):
        assert isinstance(gate, torch.nn.Parameter)
        assert torch.sigmoid(gate).tolist() == pytest.approx([start] * 3)
    before = {name: p.detach().clone() for name, p in neuron.named_parameters()}
    optimizer = torch.optim.SGD(neuron.parameters(), lr=0.1)
    neuron(torch.randn(8, 16, 3)).square().sum().backward()
    optimizer.step()
    for name, p in neuron.named_parameters():
        assert (p != before[name]).all(), f"{name} is frozen"


def test_parameters_keep_their_initial_values() -> None:
    neuron = GLIF(decay=0.3, threshold=0.6, leak=0.1, conductance=0.4, reset_value=0.7)
    got = [torch.sigmoid(p).item() for name, p in neuron.named_parameters() if name.endswith("logit")]
    assert got == pytest.approx([0.3, 0.6, 0.1, 0.4, 0.7])
    assert neuron.threshold.item() == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"gates": (0.5, 0.5)}, "three numbers"),
        ({"gates": (0.0, 0.5, 0.5)}, "gate alpha.*learn_gates=False"),
        ({"gates": (0.5, 1.5, 0.5), "learn_gates": False}, r"gate beta must be in \[0, 1\]"),
        ({"threshold": 1.0}, "threshold must be strictly between"),
        ({"leak": 0.0}, "leak"),
    ],
)
def test_bad_arguments(bad: dict[str, object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        GLIF(**bad)  # pyright: ignore[reportArgumentType]
