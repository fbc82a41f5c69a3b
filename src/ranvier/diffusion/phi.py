"""The φ-functions of exponential integrators, without cancellation near zero."""

from __future__ import annotations

import math

from ranvier.errors import ArgumentError

_SERIES_BELOW = 2.0  # the recursion divides by z at every order, so that rounding grows as |z| falls


def phi(k: int, z: float) -> float:
    """`φ_0(z) = e^z`, `φ_{k+1}(z) = (φ_k(z) − 1/k!)/z`, `φ_k(0) = 1/k!`, in float64; k >= 0."""
    if k < 0:
        raise ArgumentError(f"k must be >= 0, got {k!r}")
    if k == 0:
        return math.exp(z)
    if abs(z) < _SERIES_BELOW:
        term = 1 / math.factorial(k)
        terms = [term]
        j = k
        while abs(term) > 1e-20 * terms[0] and term:
            j += 1
            term *= z / j
            terms.append(term)
        return math.fsum(terms)
    value = math.expm1(z) / z
    for j in range(1, k):
        value = (value - 1 / math.factorial(j)) / z
    return value
