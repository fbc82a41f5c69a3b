"""Noise schedules and time grids: inverses, marginals, and what they refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ranvier.diffusion import NoiseSchedule, custom_grid, linear_betas, scaled_linear_betas, time_grid
from ranvier.errors import ArgumentError

SCHEDULES = {
    "vp_linear": NoiseSchedule.vp_linear(),
    "cosine": NoiseSchedule.cosine(),
    "discrete": NoiseSchedule.from_betas(linear_betas()),
    "stable": NoiseSchedule.from_betas(scaled_linear_betas()),
    "flow": NoiseSchedule.flow(),
    "flow3": NoiseSchedule.flow(3.0),
}


@pytest.fixture(params=sorted(SCHEDULES))
def any_schedule(request: pytest.FixtureRequest) -> NoiseSchedule:
    return SCHEDULES[request.param]


def test_inverse_and_marginals(any_schedule: NoiseSchedule) -> None:
    times = np.linspace(2e-3, any_schedule.t_max, 57)
    lams = any_schedule.lam(times)
    assert np.all(np.diff(lams) < 0)
    np.testing.assert_allclose(any_schedule.inverse_lam(lams), times, rtol=1e-9, atol=1e-12)
    alpha, sigma = any_schedule.alpha(times), any_schedule.sigma(times)
    whole = alpha + sigma if any_schedule.kind == "flow" else alpha**2 + sigma**2
    np.testing.assert_allclose(whole, 1, atol=1e-13)
    np.testing.assert_allclose(np.log(alpha / sigma), lams, atol=1e-9)


def test_no_noise_at_zero(any_schedule: NoiseSchedule) -> None:
    assert any_schedule.alpha(0.0) == pytest.approx(1, abs=1e-12)
    assert any_schedule.sigma(0.0) == pytest.approx(0, abs=1e-7)


def test_kinds_of_argument() -> None:
    schedule = SCHEDULES["vp_linear"]
    assert isinstance(schedule.alpha(0.5), float)
    assert schedule.alpha(torch.tensor([0.5], dtype=torch.float64)).item() == schedule.alpha(0.5)
    assert schedule.alpha(np.array([0.5]))[0] == schedule.alpha(0.5)


def test_vp_linear_closed_form() -> None:
    t = 0.37
    assert SCHEDULES["vp_linear"].alpha(t) == pytest.approx(math.exp(-0.25 * t * t * 19.9 - 0.05 * t), rel=1e-14)


def test_discrete_agrees_with_its_table_and_labels() -> None:
    betas = np.asarray(linear_betas())
    cumprod = np.cumprod(1 - betas)
    schedule = NoiseSchedule.from_betas(betas)
    n = np.array([0, 1, 500, 999])
    np.testing.assert_allclose(schedule.alpha((n + 1) / 1000) ** 2, cumprod[n], rtol=1e-12)
    assert schedule.label(1.0) == 999
    assert schedule.label(1e-3) == pytest.approx(0, abs=1e-12)
    assert schedule.label(1e-5) == 0  # never below what the network has seen
    assert schedule.t_min == 1e-3


def test_fingerprint_knows_schedules() -> None:
    names = {schedule.fingerprint() for schedule in SCHEDULES.values()}
    assert len(names) == len(SCHEDULES)
    assert NoiseSchedule.vp_linear().fingerprint() == SCHEDULES["vp_linear"].fingerprint()


@pytest.mark.parametrize(
    "make",
    [
        lambda: NoiseSchedule.vp_linear(2.0, 1.0),
        lambda: NoiseSchedule.cosine(0.0),
        lambda: NoiseSchedule.from_betas([0.1, 1.0]),
        lambda: NoiseSchedule.from_alphas_cumprod([0.5, 0.7]),
        lambda: NoiseSchedule.from_alphas_cumprod([[0.5, 0.2]]),
        lambda: NoiseSchedule.flow(0.0),
    ],
)
def test_bad_schedules(make) -> None:
    with pytest.raises(ArgumentError):
        make()


@pytest.mark.parametrize("kind", ["time_uniform", "logsnr", "time_quadratic", "karras"])
def test_grids_fall_from_start_to_end(any_schedule: NoiseSchedule, kind) -> None:
    grid = time_grid(any_schedule, 7, kind)
    assert grid.nfe == 7
    assert (grid.times[0], grid.times[-1]) == (any_schedule.t_max, any_schedule.t_min)
    assert all(a > b for a, b in zip(grid.times, grid.times[1:], strict=False))
    if kind == "logsnr":
        np.testing.assert_allclose(np.diff(grid.lams), np.diff(grid.lams)[0], rtol=1e-6)
    if kind == "time_quadratic":
        np.testing.assert_allclose(np.diff(np.sqrt(grid.times)), np.diff(np.sqrt(grid.times))[0], rtol=1e-9)
    if kind == "karras":
        roots = (np.asarray(grid.sigmas) / np.asarray(grid.alphas)) ** (1 / 7)
        np.testing.assert_allclose(np.diff(roots), np.diff(roots)[0], rtol=1e-6)


def test_grid_refuses_bad_input(schedule: NoiseSchedule) -> None:
    for n in (0, -1, 2.0, True):
        with pytest.raises(ArgumentError, match="function evaluations"):
            time_grid(schedule, n)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ArgumentError, match="time_uniform"):
        time_grid(schedule, 4, "time_uniforn")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ArgumentError, match="t_end"):
        time_grid(schedule, 4, t_start=0.1, t_end=0.2)
    with pytest.raises(ArgumentError, match="infinite"):
        time_grid(schedule, 4, "karras", t_end=0.0)
    with pytest.raises(ArgumentError, match=r"strictly decreasing.*times.1"):
        custom_grid(schedule, [1.0, 0.5, 0.5])
    with pytest.raises(ArgumentError, match="beyond"):
        custom_grid(schedule, [1.5, 0.5])
