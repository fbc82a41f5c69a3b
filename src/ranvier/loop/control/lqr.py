"""Linear-quadratic control by iterating the Riccati equation."""

from __future__ import annotations

import torch
from torch import Tensor

from ranvier.errors import ArgumentError, RanvierError, ShapeError


class RiccatiError(RanvierError):
    """The Riccati iteration does not settle: the plant cannot be stabilised, or not with these weights."""


def lqr(A: Tensor, B: Tensor, Q: Tensor, R: Tensor, *, tolerance: float = 1e-9, iterations: int = 100_000,
        unroll: int | None = None) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Gain K and cost-to-go P of the discrete problem x' = A x + B u, cost Σ xᵀQx + uᵀRu; the control is u = −K x.

    Args:
        A: `[n, n]`; B: `[n, m]`; Q: `[n, n]`, positive semidefinite; R: `[m, m]`, positive definite.
        tolerance: relative change of P at which the iteration stops; doubling makes it converge quadratically.
        unroll: that many plain Riccati steps instead, differentiable (an approximation of the solution).

    Raises `ShapeError`, or `RiccatiError` when there is no finite solution.
    """
    n, m = B.shape if B.dim() == 2 else (-1, -1)
    if A.shape != (n, n) or Q.shape != (n, n) or R.shape != (m, m):
        raise ShapeError(
            f"lqr needs A [n, n], B [n, m], Q [n, n], R [m, m]; got {tuple(A.shape)}, {tuple(B.shape)}, "
            f"{tuple(Q.shape)}, {tuple(R.shape)}"
        )
    if unroll is not None:
        if unroll < 1:
            raise ArgumentError(f"unroll must be positive, got {unroll}")
        P = Q
        for _ in range(unroll):
            P = Q + A.T @ P @ (A - B @ torch.linalg.solve(R + B.T @ P @ B, B.T @ P @ A))
        return torch.linalg.solve(R + B.T @ P @ B, B.T @ P @ A), P
    # structure-preserving doubling: step k stands for 2^k plain steps
    eye = torch.eye(n, dtype=A.dtype)
    a, g, P = A, B @ torch.linalg.solve(R, B.T), Q
    for _ in range(min(iterations, 64)):
        w = torch.linalg.solve(eye + g @ P, a)
        g_next = g + a @ torch.linalg.solve(eye + g @ P, g) @ a.T
        P_next = P + a.T @ P @ w
        a = a @ w
        if not bool(torch.isfinite(P_next).all()):
            break
        change = float(((P_next - P).abs().max() / P_next.abs().max().clamp_min(1e-300)).detach())
        P, g = 0.5 * (P_next + P_next.T), g_next
        if change < tolerance:
            return torch.linalg.solve(R + B.T @ P @ B, B.T @ P @ A), P
    raise RiccatiError("the Riccati iteration does not settle; is (A, B) stabilisable and are Q >= 0 and R > 0?")
