"""A linear plant whose best controller and best sensing are known in closed form."""

from __future__ import annotations

import torch
from torch import Tensor

from ranvier.errors import ArgumentError, ShapeError
from ranvier.loop.control.lqr import lqr


class LTIPlant:
    """x' = A x + B u + w with cost xᵀQx + uᵀRu, w normal with standard deviation `noise`; many copies at a time.

    Args:
        A, B, Q, R: see `lqr`; float64.
        noise: standard deviation of each component of w.
        seed: of the noise.
    """

    def __init__(self, A: Tensor, B: Tensor, Q: Tensor, R: Tensor, noise: float = 0.0, seed: int = 0) -> None:
        if not 0 <= noise < float("inf"):
            raise ArgumentError(f"noise must be a number >= 0, got {noise}")
        self.A, self.B, self.Q, self.R = (t.double() for t in (A, B, Q, R))
        if self.A.dim() != 2 or self.A.shape[0] != self.A.shape[1] or self.B.shape[0] != self.A.shape[0]:
            raise ShapeError(f"A must be [n, n] and B [n, m], got {tuple(A.shape)} and {tuple(B.shape)}")
        self.noise = noise
        self._generator = torch.Generator().manual_seed(seed)

    def reset(self, state: Tensor) -> Tensor:
        """Start from `state` `[N, n]`."""
        self.state = state.double().clone()
        return self.state

    def step(self, action: Tensor) -> tuple[Tensor, Tensor]:
        """Next state `[N, n]` and the cost `[N]` of the present one under `action` `[N, m]`."""
        x, u = self.state, action.double()
        cost = (x @ self.Q * x).sum(1) + (u @ self.R * u).sum(1)
        draw = torch.randn(x.shape, generator=self._generator, dtype=torch.float64)
        self.state = x @ self.A.T + u @ self.B.T + self.noise * draw
        return self.state, cost

    def gain(self) -> Tensor:
        """The optimal feedback K, u = −K x."""
        return lqr(self.A, self.B, self.Q, self.R)[0]


def sensed_variance(a: float, sigma: float, q: float) -> float:
    """Stationary variance, before a measurement, of the error in x' = a x + w measured perfectly with probability q:
    σ²/(1 − a²(1 − q)); infinite for q ≤ 1 − 1/a² (intermittent observations)."""
    if not 0 <= q <= 1 or sigma < 0:
        raise ArgumentError(f"expected q in [0, 1] and sigma >= 0, got {q} and {sigma}")
    left = 1 - a * a * (1 - q)
    return sigma * sigma / left if left > 1e-12 else float("inf")


def sensing_error(kind: str, rate_or_threshold: float, steps: int = 200_000, seed: int = 0) -> tuple[float, float]:
    """Mean squared error and sensing rate for a random walk of unit steps.

    Args:
        kind: "event" senses when the error exceeds the threshold in magnitude, "periodic" every n-th step, "random"
            with a probability.
        rate_or_threshold: the threshold of "event" (in steps' standard deviations), the rate of the others.
    """
    generator = torch.Generator().manual_seed(seed)
    walk = torch.randn(steps, generator=generator, dtype=torch.float64)
    draw = torch.rand(steps, generator=generator, dtype=torch.float64)
    if kind not in ("event", "periodic", "random"):
        raise ArgumentError(f"kind must be 'event', 'periodic' or 'random', got {kind!r}")
    if not rate_or_threshold > 0:
        raise ArgumentError(f"rate_or_threshold must be positive, got {rate_or_threshold}")
    period = round(1 / rate_or_threshold) if kind == "periodic" else 0
    error, squared, sensed = 0.0, 0.0, 0
    for t, (w, u) in enumerate(zip(walk.tolist(), draw.tolist(), strict=True)):
        error += w
        look = (
            abs(error) > rate_or_threshold if kind == "event"
            else t % period == 0 if kind == "periodic" else u < rate_or_threshold
        )  # fmt: skip
        if look:
            error, sensed = 0.0, sensed + 1
        squared += error * error
    return squared / steps, sensed / steps
