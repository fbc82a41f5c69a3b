"""Functions that Triton's language lacks, from those it has: they run on any backend and in its interpreter."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def tanh(x):
    e = tl.exp(-2.0 * tl.abs(x))
    far = (1.0 - e) / (1.0 + e)
    q = x * x
    near = x * (1.0 + q * (-1.0 / 3.0 + q * (2.0 / 15.0 + q * (-17.0 / 315.0))))  # below 0.02 the next term is 1e-16
    return tl.where(tl.abs(x) < 0.02, near, tl.where(x < 0, -far, far))


@triton.jit
def log1p(x):
    u = 1.0 + x
    rounded = u - 1.0  # what of x survived the addition; the quotient corrects for the rest
    safe = tl.where(rounded == 0, 1.0, rounded)
    return tl.where(rounded == 0, x, tl.where(u == float("inf"), u, tl.log(u) * (x / safe)))


@triton.jit
def expm1(x):
    u = tl.exp(x)
    logarithm = tl.log(tl.where(u == 0, 1.0, u))
    safe = tl.where(logarithm == 0, 1.0, logarithm)
    near = tl.where(u == 1, x, (u - 1.0) * (x / safe))
    return tl.where(tl.abs(x) < 0.5, near, u - 1.0)


@triton.jit
def rint(x):
    n = tl.floor(x + 0.5)
    tie_to_odd = (n == x + 0.5) & (n - 2 * tl.floor(n * 0.5) == 1)
    nearest = tl.where(tie_to_odd, n - 1, n)
    return tl.where(tl.abs(x) < 4194304.0, nearest, x + (tl.floor(x) - x))


@triton.jit
def trunc(x):
    return tl.where(x < 0, tl.ceil(x), tl.floor(x))
