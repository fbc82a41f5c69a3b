"""Lagrange compensation: weights, exactness, invariance."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ranvier.diffusion import lagrange_compensate, lagrange_weights
from ranvier.errors import ArgumentError

TIMES = [0.31, 0.52, 0.6, 0.93]  # newest first


@given(rho=st.floats(-1, 3), order=st.integers(1, 3))
def test_weights_sum_to_one(rho: float, order: int) -> None:
    assert sum(lagrange_weights(TIMES[: order + 1], rho)) == pytest.approx(1, abs=1e-10)


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("rho", [0.3, 0.9, 1.4])
def test_reproduces_polynomials(order: int, rho: float) -> None:
    target = rho * TIMES[0] + (1 - rho) * TIMES[1]
    for degree in range(order + 1):
        outputs = [torch.full((2,), t**degree, dtype=torch.float64) for t in TIMES]
        found = lagrange_compensate(outputs, TIMES, rho, order)
        assert found == pytest.approx(torch.full((2,), target**degree, dtype=torch.float64), abs=1e-12)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_one_returns_the_newest_itself(order: int) -> None:
    outputs = [torch.randn(3) for _ in TIMES]
    assert lagrange_compensate(outputs, TIMES, 1.0, order) is outputs[0]
    assert lagrange_compensate(outputs[::-1], TIMES[::-1], 1.0, order) is outputs[0]


def test_direction_of_the_lists_does_not_matter() -> None:
    outputs = [torch.randn(3, dtype=torch.float64) for _ in TIMES]
    a = lagrange_compensate(outputs, TIMES, 0.7)
    assert torch.equal(a, lagrange_compensate(outputs[::-1], TIMES[::-1], 0.7))


def test_affine_maps_of_time() -> None:
    outputs = [torch.randn(3, dtype=torch.float64) for _ in TIMES]
    a = lagrange_compensate(outputs, TIMES, 1.2)
    b = lagrange_compensate(outputs, [1000 * t - 1 for t in TIMES], 1.2)
    torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)


def test_uniform_grid_weights() -> None:
    u = 0.3
    assert lagrange_weights([0.1, 0.2], 1 + u) == pytest.approx([1 + u, -u])
    expected = [(u + 1) * (u + 2) / 2, -u * (u + 2), u * (u + 1) / 2]
    assert lagrange_weights([0.1, 0.2, 0.3], 1 + u) == pytest.approx(expected)


def test_gradient_of_the_ratio() -> None:
    outputs = [torch.randn(3, dtype=torch.float64) for _ in TIMES]
    rho = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda r: lagrange_compensate(outputs, TIMES, r), (rho,))


def test_refuses() -> None:
    outputs = [torch.zeros(2)] * 3
    with pytest.raises(ArgumentError, match="needs 4"):
        lagrange_compensate(outputs, TIMES[:3], 1.1, 3)
    with pytest.raises(ArgumentError, match="same length"):
        lagrange_compensate(outputs, TIMES, 1.1)
    with pytest.raises(ArgumentError, match="monotonic"):
        lagrange_compensate(outputs, [0.1, 0.3, 0.3], 1.1)
    with pytest.raises(ArgumentError, match="order"):
        lagrange_compensate(outputs, TIMES[:3], 1.1, 0)
