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
        value = Q
        for _ in range(unroll):
            value = Q + A.T @ value @ (A - B @ torch.linalg.solve(R + B.T @ value @ B, B.T @ value @ A))
        return torch.linalg.solve(R + B.T @ value @ B, B.T @ value @ A), value
    # structure-preserving doubling: step k stands for 2^k plain steps
    eye = torch.eye(n, dtype=A.dtype)
    a, g, value = A, B @ torch.linalg.solve(R, B.T), Q
    for _ in range(min(iterations, 64)):
        w = torch.linalg.solve(eye + g @ value, a)
        g_next = g + a @ torch.linalg.solve(eye + g @ value, g) @ a.T
        following = value + a.T @ value @ w
        a = a @ w
        if not bool(torch.isfinite(following).all()):
            break
        change = float(((following - value).abs().max() / following.abs().max().clamp_min(1e-300)).detach())
        value, g = 0.5 * (following + following.T), g_next
        if change < tolerance:
            return torch.linalg.solve(R + B.T @ value @ B, B.T @ value @ A), value
    raise RiccatiError("the Riccati iteration does not settle; is (A, B) stabilisable and are Q >= 0 and R > 0?")
