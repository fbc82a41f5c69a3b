from __future__ import annotations

from itertools import pairwise
from math import exp

import pytest
import torch

from ranvier.errors import ArgumentError
from ranvier.neurons import HodgkinHuxley
from ranvier.neurons.hodgkin_huxley import _over_expm1

pytestmark = pytest.mark.usefixtures("plain_torch")


def membrane(current: float, milliseconds: float) -> list[float]:
    """The equations once more, in plain Python: the membrane after every 0.01 ms."""
    v, m, h, n = 0.0, 0.05, 0.6, 0.32
    trace: list[float] = []
    for _ in range(round(milliseconds * 100)):
        v += 0.01 * (current - 120 * m**3 * h * (v - 115) - 36 * n**4 * (v + 12) - 0.3 * (v - 10.6))
        m += 0.01 * ((2.5 - 0.1 * v) / (exp(2.5 - 0.1 * v) - 1) * (1 - m) - 4 * exp(-v / 18) * m)
        h += 0.01 * (0.07 * exp(-v / 20) * (1 - h) - h / (exp(3 - 0.1 * v) + 1))
        n += 0.01 * ((0.1 - 0.01 * v) / (exp(1 - 0.1 * v) - 1) * (1 - n) - 0.125 * exp(-v / 80) * n)
        trace.append(v)
        assert min(m, h, n) >= 0 and max(m, h, n) <= 1
    return trace


def crossings(trace: list[float], threshold: float = 50.0) -> list[int]:
    return [t for t in range(1, len(trace)) if trace[t - 1] < threshold <= trace[t]]


def test_the_axon_fires_69_times_a_second_and_the_neuron_is_the_axon() -> None:
    trace = membrane(10.0, 1000)
    times = crossings(trace)
    assert len(times) == 69 and times[0] == 185
    assert all(1440 < b - a < 1500 for a, b in pairwise(times))

    neuron = HodgkinHuxley().double()
    x = torch.full((1, 1), 10.0, dtype=torch.float64)
    state, spikes = neuron.initial_state(x), []
    with torch.no_grad():
        for t in range(1800):
            s, state = neuron.step(x, state)
            assert state[0].item() == pytest.approx(trace[t], abs=1e-8)
            if s.item():
                spikes.append(t)
    assert spikes == times[:2] == [185, spikes[1]]


def test_a_step_of_many_substeps_fires_in_the_same_milliseconds() -> None:
    neuron = HodgkinHuxley(substeps=100).double()
    with torch.no_grad():
        spikes, state = neuron.scan(torch.full((18, 1, 2), 10.0, dtype=torch.float64), None, True)
    assert spikes[..., 0].flatten().nonzero().flatten().tolist() == [t // 100 for t in crossings(membrane(10.0, 18))]
    assert state is not None
    assert state[0][0, 0].item() == pytest.approx(membrane(10.0, 18)[-1], abs=1e-8)


def test_without_current_it_is_silent() -> None:
    assert not crossings(membrane(0.0, 500))
    with torch.no_grad():
        spikes, state = HodgkinHuxley(integrator="exponential", dt=0.05, substeps=100).scan(
            torch.zeros(20, 1, 1), None, True
        )
    assert spikes.sum() == 0 and state is not None and abs(state[0].item()) < 0.1


def test_exponential_gates_stay_in_bounds_where_euler_does_not() -> None:
    x = torch.full((1, 1), 10.0, dtype=torch.float64)
    for integrator, bounded in (("exponential", True), ("euler", False)):
        neuron = HodgkinHuxley(dt=0.3, integrator=integrator).double()  # pyright: ignore[reportArgumentType]
        state, inside = neuron.initial_state(x), True
        with torch.no_grad():
            for _ in range(30):
                _, state = neuron.step(x, state)
                inside = inside and all(0 <= gate.item() <= 1 for gate in state[1:])
        assert inside == bounded


def test_the_singularity_is_removed_with_its_gradient() -> None:
    x = torch.tensor([-1e-3, -1e-5, 0.0, 1e-5, 1e-3, 2.0, 60.0], dtype=torch.float64, requires_grad=True)
    y = _over_expm1(x)
    assert y[2].item() == 1 and y.isfinite().all()
    assert torch.autograd.gradcheck(_over_expm1, (x,))
    (grad,) = torch.autograd.grad(y.sum(), x)
    assert grad[2].item() == pytest.approx(-0.5)


@pytest.mark.parametrize(
    "bad",
    [
        {"dt": 0.0},
        {"substeps": 0},
        {"integrator": "rk4"},
        {"g_k": -1.0},
        {"capacitance": 0.0},
        {"gates": (0.1, 2.0, 0.1)},
    ],
)
def test_bad_arguments(bad: dict[str, object]) -> None:
    with pytest.raises(ArgumentError, match=next(iter(bad))):
        HodgkinHuxley(**bad)  # pyright: ignore[reportArgumentType]
