from __future__ import annotations

import inspect
import math

import pytest
import torch

from ranvier import surrogates
from ranvier.errors import ArgumentError, UnknownNameError
from ranvier.surrogates import SURROGATES, Atan, Rectangle, Sigmoid, StraightThrough, Surrogate, Triangle

NORMALISED = [
    Sigmoid(4.0),
    Sigmoid(1.0),
    Atan(2.0),
    Atan(5.0),
    Triangle(2.0),
    Triangle(0.5),
    Rectangle(1.0),
    Rectangle(3.0),
]
ALL = [*NORMALISED, StraightThrough()]


@pytest.mark.parametrize("surrogate", ALL, ids=str)
def test_the_derivative_is_the_slope_of_the_primitive(surrogate: Surrogate) -> None:
    x = torch.linspace(-3, 3, 601, dtype=torch.float64) + 1e-4  # off the kinks
    x.requires_grad_()
    (slope,) = torch.autograd.grad(surrogate.primitive(x).sum(), x)
    torch.testing.assert_close(slope, surrogate.derivative(x.detach()), atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("surrogate", NORMALISED, ids=str)
def test_normalised_surrogates_integrate_to_one(surrogate: Surrogate) -> None:
    half_width = 2000.0 if isinstance(surrogate, Atan) else 50.0  # the arctangent has a heavy tail, 2/(π²αx)
    x = torch.linspace(-half_width, half_width, 8_000_001, dtype=torch.float64)
    assert torch.trapezoid(surrogate.derivative(x), x).item() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("surrogate", "peak"),
    [(Sigmoid(4.0), 1), (Atan(2.0), 1), (Triangle(2.0), 2), (Rectangle(1.0), 1), (StraightThrough(), 1)],
)
def test_peak_values_are_the_published_ones(surrogate: Surrogate, peak: float) -> None:
    assert surrogate.derivative(torch.zeros(1, dtype=torch.float64)).item() == pytest.approx(peak, abs=1e-15)


@pytest.mark.parametrize("surrogate", ALL, ids=str)
def test_forward_is_a_step_that_fires_at_zero_and_backward_is_the_derivative(surrogate: Surrogate) -> None:
    x = torch.tensor([-1.0, -1e-300, 0.0, 1e-300, 0.3], dtype=torch.float64, requires_grad=True)
    spikes = surrogate(x)
    assert spikes.tolist() == [0, 0, 1, 1, 1]
    upstream = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0], dtype=torch.float64)
    (grad,) = torch.autograd.grad(spikes, x, upstream)
    assert torch.equal(grad, upstream * surrogate.derivative(x.detach()))


@pytest.mark.parametrize("surrogate", ALL, ids=str)
def test_config_round_trip_and_immutability(surrogate: Surrogate) -> None:
    assert surrogates.build(surrogate.config()) == surrogate
    assert surrogates.build(surrogate) is surrogate
    assert SURROGATES[surrogate.name] is type(surrogate)
    with pytest.raises(AttributeError):
        surrogate.alpha = 1.0  # pyright: ignore


def test_a_keyword_that_a_surrogate_does_not_take_raises() -> None:
    with pytest.raises(ArgumentError, match=r"'act_func'"):
        surrogates.build({"type": "sigmoid", "act_func": 2.0})
    with pytest.raises(ArgumentError, match=r"did you mean 'alpha'"):
        surrogates.build({"type": "sigmoid", "alhpa": 2.0})
    with pytest.raises(UnknownNameError, match=r"did you mean 'sigmoid'"):
        surrogates.build("sigmod")
    with pytest.raises(ArgumentError, match="'type'"):
        surrogates.build({"alpha": 2.0})


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_a_shape_parameter_must_be_positive(value: float) -> None:
    for cls in (Sigmoid, Atan, Triangle, Rectangle):
        with pytest.raises(ArgumentError, match="positive"):
            cls(value)


def test_calls_do_not_read_the_signature_anew() -> None:
    from ranvier.surrogates import _Spike

    assert inspect.signature(_Spike.forward) is inspect.signature(_Spike.forward)
