"""A Gaussian mixture diffused exactly: a denoiser without training, against which samplers are measured."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ranvier.diffusion.schedule import NoiseSchedule
from ranvier.errors import ArgumentError


class GaussianMixture:
    """The exact noise prediction of data `Σ_k w_k N(μ_k, v I)` under a schedule; a denoiser `mixture(x, t)`.

    Args:
        means: `[K, D]`.
        variance: v > 0.
        schedule: of the noise.
        weights: `[K]`, uniform by default.
    """

    def __init__(self, means: Tensor, variance: float, schedule: NoiseSchedule, weights: Tensor | None = None) -> None:
        if means.dim() != 2 or not variance > 0:
            raise ArgumentError(
                f"means must be [K, D] and variance positive, got {tuple(means.shape)} and {variance!r}"
            )
        self.means, self.variance, self.schedule = means, float(variance), schedule
        uniform = torch.full((len(means),), 1.0 / len(means), dtype=means.dtype, device=means.device)
        self.weights = uniform if weights is None else weights / weights.sum()

    @classmethod
    def random(
        cls, components: int, dims: int, variance: float, schedule: NoiseSchedule, seed: int = 0
    ) -> GaussianMixture:
        """Means drawn from N(0, I) in float64."""
        generator = torch.Generator().manual_seed(seed)
        means = torch.randn(components, dims, generator=generator, dtype=torch.float64)
        return cls(means, variance, schedule)

    def part(self, components: list[int]) -> GaussianMixture:
        """The mixture of some of the components: the conditional model of a guided field."""
        return GaussianMixture(self.means[components], self.variance, self.schedule, self.weights[components])

    def __call__(self, x: Tensor, t: float) -> Tensor:
        """ε(x, t) for `x` (`[B, D]`)."""
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        power = alpha**2 * self.variance + sigma**2
        away = x.unsqueeze(1) - alpha * self.means  # [B, K, D]
        share = torch.softmax(self.weights.log() - away.square().sum(-1) / (2 * power), dim=1)
        return sigma / power * torch.einsum("bk,bkd->bd", share, away)

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """`count` exact samples of the data."""
        which = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        noise = torch.randn(count, self.means.shape[1], generator=generator, dtype=self.means.dtype)
        return self.means[which] + math.sqrt(self.variance) * noise
