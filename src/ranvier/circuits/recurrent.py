"""A linear recurrent circuit: its dynamics, its steady state, and gradients through both."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError, ShapeError


def circulant(first_column: Tensor) -> Tensor:
    """The matrix `[N, N]` whose column j is `first_column` (`[N]`) moved down by j places."""
    if first_column.dim() != 1 or first_column.numel() == 0:
        raise ShapeError(f"first_column must be [N] with N >= 1, got shape {tuple(first_column.shape)}")
    n = first_column.numel()
    place = torch.arange(n, device=first_column.device)
    return first_column[(place.unsqueeze(1) - place) % n]


def is_circulant(weights: Tensor, tolerance: float = 1e-12) -> bool:
    """Whether every column of `weights` is the one before, moved down by one place."""
    return bool((weights - circulant(weights[:, 0])).abs().max() <= tolerance * max(1.0, float(weights.abs().max())))


class LinearRecurrent(nn.Module):
    """Rate neurons with linear recurrence,  τ dr/dt = −r + W r + d  (Duong et al. 2023, arXiv 2305.19869).

    The steady state is r* = c (I − W)⁻¹ d. It exists when all eigenvalues of W have real parts below 1.

    Args:
        weights: W, `[N, N]`; row i holds what neuron i receives. Kept as a buffer, or as a parameter if `learn`.
        tau: time constant > 0.
        scale: the unit c > 0 of the responses.
        learn: train W.

    Raises `ArgumentError` for weights that are not finite or not stable.
    """

    weights: Tensor

    def __init__(self, weights: Tensor, tau: float = 1.0, scale: float = 1.0, learn: bool = False) -> None:
        super().__init__()
        if weights.dim() != 2 or weights.shape[0] != weights.shape[1] or weights.shape[0] == 0:
            raise ShapeError(f"weights must be [N, N], got shape {tuple(weights.shape)}")
        if not weights.is_floating_point() or not bool(torch.isfinite(weights).all()):
            raise ArgumentError("weights must be finite floating-point numbers")
        for name, value in (("tau", tau), ("scale", scale)):
            if not (isinstance(value, int | float) and 0 < value < float("inf")):
                raise ArgumentError(f"{name} must be a positive number, got {value!r}")
        self.tau, self.scale = float(tau), float(scale)
        if learn:
            self.weights = nn.Parameter(weights.clone())
        else:
            self.register_buffer("weights", weights.clone() if not weights.requires_grad else weights)
        # for a fixed circulant W everything is diagonal in Fourier space; a learned W need not stay circulant
        self.circulant = not weights.requires_grad and not learn and is_circulant(weights)
        self.check_stable()

    @property
    def neurons(self) -> int:
        """How many neurons there are."""
        return self.weights.shape[0]

    def growth(self) -> float:
        """The largest real part of an eigenvalue of W; the circuit is stable below 1."""
        with torch.no_grad():
            if self.circulant:
                return float(torch.fft.fft(self.weights[:, 0]).real.max())
            return float(torch.linalg.eigvals(self.weights.double()).real.max())

    def check_stable(self) -> None:
        """Raise `ArgumentError` when the circuit has no steady state that it settles to."""
        growth = self.growth()
        if not growth < 1:
            raise ArgumentError(
                f"weights: the largest real part of an eigenvalue must be below 1 for a steady state, got {growth:.4g}"
            )

    def _check(self, drive: Tensor, what: str = "drive") -> None:
        if drive.dim() == 0 or drive.shape[-1] != self.neurons:
            raise ShapeError(f"{what} must be [..., {self.neurons}], got shape {tuple(drive.shape)}")

    def steady_state(self, drive: Tensor) -> Tensor:
        """r* for `drive` `[..., N]`; differentiable in the drive and in W (by the adjoint equation)."""
        self._check(drive)
        if self.circulant:
            response = 1 / (1 - torch.fft.rfft(self.weights[:, 0]))
            return self.scale * torch.fft.irfft(torch.fft.rfft(drive) * response, n=self.neurons)
        identity = torch.eye(self.neurons, dtype=self.weights.dtype, device=self.weights.device)
        flat = drive.reshape(-1, self.neurons)
        return self.scale * torch.linalg.solve(identity - self.weights, flat.T).T.reshape(drive.shape)

    def adjoint(self, error: Tensor) -> Tensor:
        """c (I − Wᵀ)⁻¹ e for `error` `[..., N]`: what the transposed circuit settles to."""
        self._check(error, "error")
        if self.circulant:
            response = 1 / (1 - torch.fft.rfft(self.weights[:, 0]).conj())
            return self.scale * torch.fft.irfft(torch.fft.rfft(error) * response, n=self.neurons)
        identity = torch.eye(self.neurons, dtype=self.weights.dtype, device=self.weights.device)
        flat = error.reshape(-1, self.neurons)
        return self.scale * torch.linalg.solve((identity - self.weights).T, flat.T).T.reshape(error.shape)

    def matrix(self) -> Tensor:
        """M = c (I − W)⁻¹, `[N, N]`: r* = M d."""
        identity = torch.eye(self.neurons, dtype=self.weights.dtype, device=self.weights.device)
        return self.steady_state(identity).T

    def simulate(self, drive: Tensor, dt: float, steps: int, start: Tensor | None = None) -> Tensor:
        """Responses `[steps, ..., N]` after each Euler step r ← r + (dt/τ)(−r + W r + d), from `start` or from 0.

        `drive` is `[..., N]`, or `[steps, ..., N]` when it has one dimension more than `start`. Responses are in units
        of the scale. Raises `ArgumentError` for a step so large that Euler's rule does not settle.
        """
        self._check(drive)
        if not (isinstance(steps, int) and steps >= 1):
            raise ArgumentError(f"steps must be an integer >= 1, got {steps!r}")
        self._check_step(dt)
        varying = start is not None and drive.dim() == start.dim() + 1
        if varying and drive.shape[0] != steps:
            raise ShapeError(f"drive over time must have {steps} steps, got shape {tuple(drive.shape)}")
        r = torch.zeros_like(drive[0] if varying else drive) if start is None else start / self.scale
        ratio, course = dt / self.tau, []
        for step in range(steps):
            r = r + ratio * (r @ self.weights.T - r + (drive[step] if varying else drive))
            course.append(r)
        return self.scale * torch.stack(course)

    def _check_step(self, dt: float) -> None:
        if not (isinstance(dt, int | float) and 0 < dt < float("inf")):
            raise ArgumentError(f"dt must be a positive number, got {dt!r}")
        with torch.no_grad():
            factors = 1 + dt / self.tau * (torch.linalg.eigvals(self.weights.double()) - 1)
        if float(factors.abs().max()) >= 1:
            raise ArgumentError(f"dt = {dt:g} is too large for tau = {self.tau:g}: Euler's rule would not settle")

    def settle(self, drive: Tensor, dt: float | None = None, tolerance: float = 1e-10, most: int = 100_000) -> Tensor:
        """r* by letting the circuit run until nothing changes by more than `tolerance` (of the largest response).

        Its gradient is implicit: the transposed circuit settles with the upstream gradient as its input (two-phase
        rule), so memory does not grow with the number of steps. Raises `ArgumentError` if `most` steps are not enough.
        """
        self._check(drive)
        dt = self.tau / 10 if dt is None else dt
        self._check_step(dt)
        settled = cast(Any, _Settled).apply(drive, self.weights, dt / self.tau, tolerance, most)
        return self.scale * settled

    def extra_repr(self) -> str:
        return f"{self.neurons}, tau={self.tau:g}, scale={self.scale:g}, growth={self.growth():.4g}"


def _run(weights: Tensor, drive: Tensor, ratio: float, tolerance: float, most: int) -> Tensor:
    r = torch.zeros_like(drive)
    for _ in range(most):
        change = ratio * (r @ weights.T - r + drive)
        r = r + change
        if float(change.abs().max()) <= ratio * tolerance * max(float(r.abs().max()), 1e-300):
            return r
    raise ArgumentError(f"most: the circuit has not settled after {most} steps; take more, or a larger tolerance")


class _Settled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, drive: Tensor, weights: Tensor, ratio: float, tolerance: float, most: int) -> Tensor:
        r = _run(weights, drive, ratio, tolerance, most)
        ctx.save_for_backward(r, weights)
        ctx.how = (ratio, tolerance, most)
        return r

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        r, weights = ctx.saved_tensors
        q = _run(weights.T, upstream[0], *ctx.how)
        of_weights = None
        if ctx.needs_input_grad[1]:
            of_weights = q.reshape(-1, q.shape[-1]).T @ r.reshape(-1, r.shape[-1])
        return q if ctx.needs_input_grad[0] else None, of_weights, None, None, None
