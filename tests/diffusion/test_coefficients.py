"""φ-functions and UniPC coefficients against closed forms."""

from __future__ import annotations

import math
from decimal import Decimal, getcontext

import numpy as np
import pytest

from ranvier.diffusion import phi, unipc_coefficients
from ranvier.errors import ArgumentError

LAMS = [-3.1, -2.2, -1.6, -0.4]  # uneven on purpose


def _phi_exactly(k: int, z: float) -> float:
    """The series in 80 digits."""
    getcontext().prec = 80
    power, total, factorial = Decimal(1), Decimal(0), Decimal(math.factorial(k))
    for j in range(1, 160):
        total += power / factorial
        power *= Decimal(z)
        factorial *= k + j
    return float(total)


@pytest.mark.parametrize("z", [1e-8, 1e-4, 0.1, 1.0, 10.0, -10.0, 1.9999, 2.0001, -2.5, 0.0])
@pytest.mark.parametrize("k", range(6))
def test_phi(k: int, z: float) -> None:
    assert phi(k, z) == pytest.approx(_phi_exactly(k, z), rel=1e-13)


def _known(lams: list[float], variant: str, prediction: str) -> tuple[list[float], list[float]]:
    """r (old points) and b of the published formulas."""
    h = lams[-1] - lams[-2]
    z = -h if prediction == "data" else h
    b_of_z = z if variant == "bh1" else math.expm1(z)
    r = [(lam - lams[-2]) / h for lam in lams[-3::-1]]
    return r, [math.factorial(j) * z * _phi_exactly(j + 1, z) / b_of_z for j in (1, 2, 3)]


@pytest.mark.parametrize("prediction", ["data", "noise"])
@pytest.mark.parametrize("variant", ["bh1", "bh2"])
def test_closed_forms(variant, prediction) -> None:
    r, b = _known(LAMS, variant, prediction)
    two = unipc_coefficients(LAMS, 2, variant, prediction, halves=False)
    a1 = (b[0] - b[1]) / (1 - r[0])
    assert two.a_c == pytest.approx((a1, b[0] - a1), abs=1e-12)
    assert two.a_p == pytest.approx((b[0],), abs=1e-12)
    three = unipc_coefficients(LAMS, 3, variant, prediction, halves=False)
    expected = ((b[0] * r[1] - b[1]) / (r[1] - r[0]), (b[1] - b[0] * r[0]) / (r[1] - r[0]))
    assert three.a_p == pytest.approx(expected, abs=1e-12)
    vandermonde = np.array([[1, 1, 1], [r[0], r[1], 1], [r[0] ** 2, r[1] ** 2, 1]])
    assert three.a_c == pytest.approx(tuple(np.linalg.solve(vandermonde, b)), abs=1e-12)


def test_published_halves() -> None:
    assert unipc_coefficients(LAMS, 1).a_c == (0.5,)
    assert unipc_coefficients(LAMS, 1).a_p == ()
    assert unipc_coefficients(LAMS, 2).a_p == (0.5,)
    small = [0.0, 1e-6, 2e-6]
    assert unipc_coefficients(small, 2, halves=False).a_p == pytest.approx((0.5,), abs=1e-5)


@pytest.mark.parametrize("prediction", ["data", "noise"])
def test_products_do_not_depend_on_the_variant(prediction) -> None:
    one, two = (unipc_coefficients(LAMS, 3, v, prediction, halves=False) for v in ("bh1", "bh2"))
    assert np.multiply(one.a_c, one.scale) == pytest.approx(np.multiply(two.a_c, two.scale), rel=1e-13)


def test_base_is_the_exponential_integrator() -> None:
    found = unipc_coefficients([0.2, 0.9], 1)
    sigma, alpha = (lambda v: (1 + math.exp(2 * v)) ** -0.5), (lambda v: (1 + math.exp(-2 * v)) ** -0.5)
    assert found.base_x == pytest.approx(sigma(0.9) / sigma(0.2))
    assert found.base_m == pytest.approx(-alpha(0.9) * math.expm1(-0.7))


@pytest.mark.parametrize(
    "arguments",
    [
        {"lambdas": [0.0, 1.0], "order": 2},
        {"lambdas": [1.0, 0.0], "order": 1},
        {"lambdas": [0.0, math.inf], "order": 1},
        {"lambdas": LAMS, "order": 0},
        {"lambdas": LAMS, "order": 1, "variant": "bh3"},
        {"lambdas": LAMS, "order": 1, "prediction": "epsilon"},
    ],
)
def test_refuses(arguments) -> None:
    with pytest.raises(ArgumentError):
        unipc_coefficients(**arguments)
