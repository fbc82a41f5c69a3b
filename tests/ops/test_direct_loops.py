"""Loops written as LLVM instructions: the arithmetic of NumPy to the bit, and vector code."""

from __future__ import annotations

import math

import numba
import numpy as np
import pytest

from ranvier.ops.direct_loops import (
    ceil,
    exp,
    floor,
    larger,
    loop,
    power,
    rint,
    select,
    smaller,
    sqrt,
    trunc,
)

ODD = [0.0, -0.0, 1.5, -1.5, 2.5, 0.5, -0.5, 7.25, -3.75, 1e-30, math.inf, -math.inf, math.nan]


@loop
def _arithmetic(F, j, x, y, out, n, scale):
    a, b = x[j], y[j]
    out[j] = a + b
    out[n + j] = 2 - a * b
    out[2 * n + j] = (1 / b) / a
    out[3 * n + j] = -a + scale * abs(b)
    out[4 * n + j] = floor(a) + ceil(b) * F(0.1)
    out[5 * n + j] = trunc(a) - rint(b)
    out[6 * n + j] = sqrt(abs(a))
    out[7 * n + j] = select((a < b) | (a == b) & ~(b != 1.5), a, 3)
    out[8 * n + j] = select((a >= 0) ^ (b > 0), b, F("nan"))
    out[9 * n + j] = smaller(a, b)
    out[10 * n + j] = larger(a, b)
    out[11 * n + j] = select(a <= 0.5, 1, a)
    out[12 * n + j] = select(a != b, F(1), 0)


@numba.njit
def arithmetic(x, y, out, scale):
    _arithmetic(x.size, x, y, out, x.size, scale)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arithmetic_is_numpy_s(dtype: type[np.floating]) -> None:
    x, y = (np.ascontiguousarray(t.ravel(), dtype) for t in np.meshgrid(ODD, ODD))
    out = np.zeros((13, x.size), dtype)
    scale = dtype(0.3)
    arithmetic(x, y, out.ravel(), scale)
    with np.errstate(all="ignore"):
        want = [
            x + y, 2 - x * y, (1 / y) / x, -x + scale * abs(y), np.floor(x) + np.ceil(y) * dtype(0.1),
            np.trunc(x) - np.rint(y), np.sqrt(abs(x)), np.where((x < y) | (x == y) & ~(y != 1.5), x, 3),
            np.where((x >= 0) ^ (y > 0), y, math.nan),
            [min(a, b) for a, b in zip(x, y, strict=True)], [max(a, b) for a, b in zip(x, y, strict=True)],
            np.where(x <= 0.5, 1, x),
            x != y,
        ]  # fmt: skip
    for row, (got, wanted) in enumerate(zip(out, want, strict=True)):
        wanted = np.asarray(wanted, dtype)
        np.testing.assert_array_equal(got, wanted, err_msg=str(row))
        number = ~np.isnan(wanted)
        np.testing.assert_array_equal(np.signbit(got[number]), np.signbit(wanted[number]), err_msg=str(row))


@loop
def _functions(F, j, x, out, n):
    out[j] = exp(x[j])
    out[n + j] = power(x[j], F(1.5))


@numba.njit
def functions(x, out):
    _functions(x.size, x, out, x.size)


def test_functions_are_those_of_math() -> None:
    x = np.array([0.1, 1.0, 3.7])
    out = np.zeros((2, 3))
    functions(x, out.ravel())
    assert out.tolist() == [[math.exp(v) for v in x], [math.pow(v, 1.5) for v in x]]


@loop
def _chosen(F, j, to, source, at, twice):
    to[at + j] = 2 * source[j] if twice else source[j]


@numba.njit
def chosen(to, source, n, twice):
    _chosen(n, to, source, 2, True)
    if twice:
        _chosen(n, to, source, 2, False)


def test_constants_choose_the_code_and_no_column_is_touched_beyond() -> None:
    to, source = np.full(6, -1.0), np.arange(6.0)
    chosen(to, source, 0, True)
    assert (to == -1).all()
    chosen(to, source, 3, False)
    assert to.tolist() == [-1, -1, 0, 2, 4, -1]
    chosen(to, source, 1, True)
    assert to.tolist() == [-1, -1, 0, 2, 4, -1]


def test_a_condition_of_the_compiled_code_is_no_python_condition() -> None:
    @loop
    def wrong(F, j, x):
        x[j] = x[j] if x[j] > 0 else 0

    @numba.njit
    def run(x):
        wrong(x.size, x)

    with pytest.raises(Exception, match="use select"):
        run(np.ones(3))


@loop
def _wide(F, j, a, b, c, d, e, f, g, h, o, p, q, r, at):
    z = a[at + j] * b[j] + c[at + j] / (1 + d[j] * d[j])
    o[at + j] = select(z > e[at + j], f[j], z) * g[at + j]
    p[j] += h[at + j] * z
    q[j] = p[j] - r[at + j]
    r[j] = q[j] * z


@numba.njit
def wide(arrays, at):
    a, b, c, d, e, f, g, h, o, p, q, r = arrays
    _wide(a.size - at, a, b, c, d, e, f, g, h, o, p, q, r, at)


def test_loops_are_vector_code_without_tests_for_overlap() -> None:
    arrays = tuple(np.random.default_rng(i).normal(size=1000).astype(np.float32) for i in range(12))
    wide(arrays, 0)
    (optimised,) = wide.inspect_llvm().values()
    assert "vector.body" in optimised and "x float>" in optimised
    assert "vector.memcheck" not in optimised
