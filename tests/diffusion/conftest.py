"""Fields with known answers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ranvier.diffusion import Denoiser, GaussianMixture, NoiseSchedule, TimeGrid, time_grid


@pytest.fixture(scope="session")
def schedule() -> NoiseSchedule:
    return NoiseSchedule.vp_linear()


@pytest.fixture(scope="session")
def mixture(schedule: NoiseSchedule) -> GaussianMixture:
    """Four components in four dimensions."""
    return GaussianMixture.random(4, 4, 0.25, schedule, seed=0)


@pytest.fixture
def noise() -> Callable[..., Tensor]:
    def make(count: int = 16, dims: int = 4, seed: int = 1) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(count, dims, generator=generator, dtype=torch.float64)

    return make


@pytest.fixture
def polynomial() -> Callable[[TimeGrid, int, str], Denoiser]:
    """A denoiser whose prediction is λ^j, whatever the sample."""

    def make(grid: TimeGrid, power: int, form: str) -> Denoiser:
        del form

        def denoise(x: Tensor, t: float) -> Tensor:
            return torch.full_like(x, grid.schedule.lam(t) ** power)

        return denoise

    return make


@pytest.fixture
def order_grid(schedule: NoiseSchedule) -> Callable[[int], TimeGrid]:
    """The grid of the convergence measurements."""
    return lambda n: time_grid(schedule, n, "logsnr", 0.9, 0.05)
