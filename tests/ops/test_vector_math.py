"""The float32 functions that vectorise, against the double-precision ones."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from ranvier.ops import vector_math
from ranvier.ops.direct_loops import scalar


@pytest.mark.parametrize(
    ("name", "low", "high", "ulp"), [("exp", -87.3, 88.72, 2.5), ("tanh", -12, 12, 4), ("tanh", -1e-3, 1e-3, 2)]
)
def test_accuracy(name: str, low: float, high: float, ulp: float) -> None:
    function = scalar(getattr(vector_math, f"{name}32"))

    @numba.njit
    def run(x, out):
        for i in range(x.size):
            out[i] = function(x[i])

    x = np.linspace(low, high, 200001).astype(np.float32)
    got = np.empty_like(x)
    run(x, got)
    exact = getattr(np, name)(x.astype(np.float64))
    error = np.abs(got - exact) / np.spacing(np.abs(exact).astype(np.float32))
    assert error.max() < ulp
    edges = np.array([np.inf, -np.inf, np.nan, 0.0, 1e5, -1e5, -103.0, 88.9], np.float32)
    got = np.empty_like(edges)
    run(edges, got)
    with np.errstate(over="ignore"):
        want = getattr(np, name)(edges)
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=2e-45)
