"""Dynamics, steady state and gradients of the circuit."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ranvier.circuits import LinearRecurrent, circulant, is_circulant, orientation_network, orientation_weights
from ranvier.circuits.orientation import TunedPopulation, stimulus_grid
from ranvier.errors import ArgumentError, ShapeError


def random_weights(n: int = 6, size: float = 0.5, seed: int = 0) -> Tensor:
    w = torch.randn(n, n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return size * w / float(torch.linalg.eigvals(w).abs().max())


def test_simulation_reaches_the_steady_state() -> None:
    network = orientation_network()
    drive = TunedPopulation().drive(torch.tensor([0.0, 37.0])) * torch.linspace(0.5, 1.5, 126, dtype=torch.float64)
    course = network.simulate(drive, dt=0.1, steps=1000)
    torch.testing.assert_close(course[-1], network.steady_state(drive), rtol=0, atol=1e-9)
    error = [(course[t] - course[-1]).norm() for t in (100, 200)]
    assert float(torch.log(error[0] / error[1])) / 10 == pytest.approx(1 - network.growth(), rel=0.05)


@pytest.mark.parametrize("n", [5, 6, 126])
def test_fourier_space_equals_the_dense_solution(n: int) -> None:
    column = 0.4 / n * torch.randn(n, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    weights = circulant(column)
    fast, dense = LinearRecurrent(weights), LinearRecurrent(weights)
    assert fast.circulant
    dense.circulant = False
    drive = torch.randn(3, 4, n, dtype=torch.float64)
    for method in ("steady_state", "adjoint"):
        torch.testing.assert_close(getattr(fast, method)(drive), getattr(dense, method)(drive), rtol=0, atol=1e-12)
    torch.testing.assert_close(fast.matrix(), torch.linalg.inv(torch.eye(n) - weights), rtol=0, atol=1e-12)


def test_general_weights_and_their_adjoint() -> None:
    circuit = LinearRecurrent(random_weights(), scale=0.7)
    assert not circuit.circulant
    d, e = torch.randn(2, 5, 6, dtype=torch.float64)
    r = circuit.steady_state(d)
    torch.testing.assert_close(r @ (torch.eye(6) - circuit.weights).T, 0.7 * d, rtol=0, atol=1e-12)
    torch.testing.assert_close((circuit.steady_state(d) * e).sum(), (d * circuit.adjoint(e)).sum())
    torch.testing.assert_close(d @ circuit.matrix().T, r)


def test_settling_has_the_gradient_of_the_solution() -> None:
    weights = random_weights().requires_grad_()
    drive = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(4, 6, dtype=torch.float64)
    circuit = LinearRecurrent(weights, scale=1.3)
    found = [
        torch.autograd.grad(run(drive), (drive, weights), upstream) for run in (circuit.steady_state, circuit.settle)
    ]
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(circuit.settle(drive), circuit.steady_state(drive), rtol=1e-8, atol=1e-9)


def test_a_drive_that_changes_is_followed() -> None:
    circuit = LinearRecurrent(torch.zeros(2, 2, dtype=torch.float64), tau=2.0)
    drive = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64).unsqueeze(1)
    course = circuit.simulate(drive, dt=1.0, steps=2, start=torch.zeros(1, 2, dtype=torch.float64))
    assert torch.equal(course[:, 0], torch.tensor([[0.5, 0.0], [0.25, 0.5]], dtype=torch.float64))


def test_orientation_network_is_the_described_one() -> None:
    population = TunedPopulation()
    weights = orientation_weights(population)
    assert is_circulant(weights)
    torch.testing.assert_close(weights, weights.T, rtol=0, atol=1e-15)
    network = orientation_network()
    assert network.growth() == pytest.approx(0.7654, abs=5e-5)
    assert float(network.steady_state(population.drive(stimulus_grid())).max()) == pytest.approx(1.0)
    assert 1 / network.scale == pytest.approx(2.2961, abs=5e-4)


def test_mistakes_are_named() -> None:
    with pytest.raises(ArgumentError, match=r"below 1 for a steady state, got 1\.2"):
        LinearRecurrent(torch.eye(2) * 1.2)
    with pytest.raises(ArgumentError, match="finite"):
        LinearRecurrent(torch.full((2, 2), float("nan")))
    with pytest.raises(ShapeError, match=r"\[N, N\]"):
        LinearRecurrent(torch.zeros(2, 3))
    with pytest.raises(ArgumentError, match="tau"):
        LinearRecurrent(torch.zeros(2, 2), tau=0)
    circuit = LinearRecurrent(torch.zeros(2, 2))
    with pytest.raises(ShapeError, match=r"drive must be \[\.\.\., 2\]"):
        circuit.steady_state(torch.zeros(3))
    with pytest.raises(ArgumentError, match="too large"):
        circuit.simulate(torch.zeros(2), dt=2.5, steps=1)
    with pytest.raises(ArgumentError, match="not settled after 3"):
        circuit.settle(torch.ones(2), most=3)
    with pytest.raises(ArgumentError, match="width"):
        orientation_network(width=0)
