"""Coefficients of one UniPC transition (Zhao et al., "UniPC", NeurIPS 2023), all of them plain float64 numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np

from ranvier.diffusion.phi import phi
from ranvier.errors import ArgumentError

Variant = Literal["bh1", "bh2"]
Form = Literal["data", "noise"]
LARGEST_ORDER = 8


class UniPCCoefficients(NamedTuple):
    """What `unipc_coefficients` returns; `D_k` are the differences `(m_{−k} − m_0)/r_k` and `m_t − m_0`."""

    a_p: tuple[float, ...]
    a_c: tuple[float, ...]
    base_x: float
    base_m: float
    scale: float


def unipc_coefficients(
    lambdas: Sequence[float],
    order: int = 2,
    variant: Variant = "bh2",
    prediction: Form = "data",
    halves: bool = True,
    alphas: tuple[float, float] | None = None,
    sigmas: tuple[float, float] | None = None,
) -> UniPCCoefficients:
    """Predictor and corrector of order p from the newest time s to the next time t.

    With `D_k = (m_{−k} − m_0)/r_k` and `r_k = (λ_{−k} − λ_s)/h`, `h = λ_t − λ_s`:
    UniP `x_t = base_x x_s + base_m m_0 + scale Σ_{k<p} a_p[k] D_k`, and UniC the same with `a_c` and the last
    difference `m_t − m_0`.

    Args:
        lambdas: half log-SNR, increasing: older times, the newest one (s), the target (t); at least p + 1 of them.
        order: p >= 1.
        variant: "bh1" (B = z) or "bh2" (B = e^z − 1). The solved coefficients give the same step for both.
        prediction: whether the outputs m are of the data (z = −h) or of the noise (z = h).
        halves: take ½ where the published code does (`a_p` at p = 2, `a_c` at p = 1) instead of the solution.
        alphas, sigmas: (at s, at t); by default those of a variance-preserving schedule.
    """
    lams = [float(v) for v in lambdas]
    check_order(order)
    check_variant(variant)
    check_form(prediction)
    if len(lams) < order + 1:
        raise ArgumentError(f"lambdas must hold at least order + 1 = {order + 1} values, got {len(lams)}")
    lams = lams[-(order + 1) :]
    if not all(math.isfinite(v) for v in lams) or any(a >= b for a, b in pairwise(lams)):
        raise ArgumentError(
            f"lambdas must be finite and strictly increasing (oldest first, the target last), got {lams}"
        )
    s, t = lams[-2], lams[-1]
    h = t - s
    z = -h if prediction == "data" else h
    (alpha_s, alpha_t) = alphas or (_vp_alpha(s), _vp_alpha(t))
    (sigma_s, sigma_t) = sigmas or (_vp_alpha(-s), _vp_alpha(-t))
    growth = math.expm1(z)
    b_of_z = z if variant == "bh1" else growth
    r = [(lam - s) / h for lam in lams[-3::-1]] + [1.0]
    b = [math.factorial(j) * z * phi(j + 1, z) / b_of_z for j in range(1, order + 1)]
    matrix = np.vander(np.asarray(r), order, increasing=True).T
    a_c = [0.5] if order == 1 and halves else np.linalg.solve(matrix, np.asarray(b)).tolist()
    if order == 1:
        a_p: list[float] = []
    elif order == 2 and halves:
        a_p = [0.5]
    else:
        a_p = np.linalg.solve(matrix[:-1, :-1], np.asarray(b[:-1])).tolist()
    if prediction == "data":
        return UniPCCoefficients(tuple(a_p), tuple(a_c), sigma_t / sigma_s, -alpha_t * growth, -alpha_t * b_of_z)
    return UniPCCoefficients(tuple(a_p), tuple(a_c), alpha_t / alpha_s, -sigma_t * growth, -sigma_t * b_of_z)


def check_order(order: int) -> None:
    """`ArgumentError` unless `order` is one that UniPC has here."""
    if isinstance(order, bool) or not isinstance(order, int) or not 1 <= order <= LARGEST_ORDER:
        raise ArgumentError(f"order must be an integer in 1 .. {LARGEST_ORDER}, got {order!r}")


def check_variant(variant: str) -> None:
    """`ArgumentError` unless `variant` is "bh1" or "bh2"."""
    if variant not in ("bh1", "bh2"):
        raise ArgumentError(f"variant must be 'bh1' or 'bh2', got {variant!r}")


def check_form(form: str) -> None:
    """`ArgumentError` unless `form` is "data" or "noise"."""
    if form not in ("data", "noise"):
        raise ArgumentError(f"the form of the outputs must be 'data' or 'noise', got {form!r}")


def _vp_alpha(lam: float) -> float:
    return math.exp(-0.5 * float(np.logaddexp(0, -2 * lam)))
