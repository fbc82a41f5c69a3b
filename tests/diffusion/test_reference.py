"""The exact trajectory, against the closed form of a single Gaussian."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ranvier.diffusion import Counted, GaussianMixture, NoiseSchedule, linear_betas, reference_trajectory, time_grid
from ranvier.errors import ArgumentError

Noise = Callable[..., Tensor]
VARIANCE = 0.3


@pytest.fixture(params=["vp_linear", "cosine", "flow"])
def gaussian(request: pytest.FixtureRequest) -> GaussianMixture:
    schedule = {"vp_linear": NoiseSchedule.vp_linear, "cosine": NoiseSchedule.cosine, "flow": NoiseSchedule.flow}
    return GaussianMixture(torch.tensor([[0.5, -1.0, 0.2]], dtype=torch.float64), VARIANCE, schedule[request.param]())


def _closed_form(field: GaussianMixture, x: Tensor, s: float, t: float) -> Tensor:
    a, g = field.schedule.alpha, field.schedule.sigma
    spread = ((a(t) ** 2 * VARIANCE + g(t) ** 2) / (a(s) ** 2 * VARIANCE + g(s) ** 2)) ** 0.5
    return a(t) * field.means[0] + spread * (x - a(s) * field.means[0])


def test_rk4_at_every_time_of_the_grid(gaussian: GaussianMixture, noise: Noise) -> None:
    x = noise(5, 3)
    grid = time_grid(gaussian.schedule, 6, t_start=0.98)
    states = reference_trajectory(gaussian, x, grid, substeps=300)
    assert torch.equal(states[0], x)
    for n, t in enumerate(grid.times):
        assert (states[n] - _closed_form(gaussian, x, grid.times[0], t)).abs().max() <= 1e-10


def test_ddim_reference_converges(gaussian: GaussianMixture, noise: Noise) -> None:
    x, grid = noise(5, 3), time_grid(gaussian.schedule, 4, t_start=0.98)
    counted = Counted(gaussian)
    states = reference_trajectory(counted, x, grid, "ddim")
    assert counted.calls == 1000  # 250 in each of 4 intervals
    assert (states[-1] - _closed_form(gaussian, x, 0.98, grid.times[-1])).abs().max() < 5e-3


def test_grid_that_ends_without_noise(noise: Noise) -> None:
    field = GaussianMixture(torch.zeros(1, 3, dtype=torch.float64), VARIANCE, NoiseSchedule.from_betas(linear_betas()))
    x, grid = noise(5, 3), time_grid(field.schedule, 4, t_end=0.0)
    states = reference_trajectory(field, x, grid, substeps=60)
    torch.testing.assert_close(states[-1], _closed_form(field, x, 1.0, 0.0), rtol=1e-3, atol=1e-4)


def test_refuses(gaussian: GaussianMixture, noise: Noise) -> None:
    grid = time_grid(gaussian.schedule, 2)
    with pytest.raises(ArgumentError, match="rk4"):
        reference_trajectory(gaussian, noise(2, 3), grid, "euler")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ArgumentError, match="substeps"):
        reference_trajectory(gaussian, noise(2, 3), grid, substeps=0)
