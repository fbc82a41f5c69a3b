"""The samplers: equivalences, polynomial exactness, convergence orders, counts, finiteness."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from ranvier.diffusion import (
    Counted,
    Denoiser,
    GaussianMixture,
    Guided,
    NoiseSchedule,
    Threshold,
    TimeGrid,
    linear_betas,
    reference_trajectory,
    sample_ode,
    time_grid,
)
from ranvier.errors import ArgumentError, ShapeError

Noise = Callable[..., Tensor]


def _ddim(denoiser: Denoiser, x: Tensor, grid: TimeGrid) -> Tensor:
    """Written out from the paper."""
    for n in range(grid.nfe):
        eps = denoiser(x, grid.times[n])
        x0 = (x - grid.sigmas[n] * eps) / grid.alphas[n]
        x = grid.alphas[n + 1] * x0 + grid.sigmas[n + 1] * eps
    return x


def _dpmpp_2m(denoiser: Denoiser, x: Tensor, grid: TimeGrid, final_first_order: bool = True) -> Tensor:
    """Written out from algorithm 2 of DPM-Solver++."""
    previous: Tensor | None = None
    lams = grid.lams
    for n in range(grid.nfe):
        x0 = (x - grid.sigmas[n] * denoiser(x, grid.times[n])) / grid.alphas[n]
        h = lams[n + 1] - lams[n]
        d = x0
        if previous is not None and not (final_first_order and n == grid.nfe - 1):
            r = (lams[n] - lams[n - 1]) / h
            d = (1 + 1 / (2 * r)) * x0 - 1 / (2 * r) * previous
        x = grid.sigmas[n + 1] / grid.sigmas[n] * x - grid.alphas[n + 1] * math.expm1(-h) * d
        previous = x0
    return x


@pytest.mark.parametrize("form", ["data", "noise"])
def test_unip_1_and_ddim(mixture: GaussianMixture, noise: Noise, schedule: NoiseSchedule, form) -> None:
    grid = time_grid(schedule, 9)
    wanted = _ddim(mixture, noise(), grid)
    for solver in ("unip", "ddim"):
        found = sample_ode(mixture, noise(), grid, solver, order=1, form=form)  # pyright: ignore[reportArgumentType]
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-13)


@pytest.mark.parametrize("final", [True, False])
def test_unip_2_and_dpmpp_2m(mixture: GaussianMixture, noise: Noise, schedule: NoiseSchedule, final: bool) -> None:
    grid = time_grid(schedule, 9)
    wanted = _dpmpp_2m(mixture, noise(), grid, final)
    for solver in ("unip", "dpmpp_2m"):
        found = sample_ode(mixture, noise(), grid, solver, order=2, variant="bh2", lower_order_final=final)  # pyright: ignore[reportArgumentType]
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-13)


@pytest.mark.parametrize("form", ["data", "noise"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_variants_are_one_method_without_the_halves(
    mixture: GaussianMixture, noise: Noise, schedule: NoiseSchedule, order: int, form
) -> None:
    grid = time_grid(schedule, 6)
    one, two = (
        sample_ode(mixture, noise(), grid, "unipc", order, variant, form=form, halves=False)
        for variant in ("bh1", "bh2")
    )  # fmt: skip
    torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("variant", ["bh1", "bh2"])
@pytest.mark.parametrize("form", ["data", "noise"])
@pytest.mark.parametrize("corrected", [False, True])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_polynomial_exactness(order: int, corrected: bool, form, variant, order_grid) -> None:
    """A prediction λ^j is integrated exactly for j < order, with the corrector for j <= order, and not beyond."""
    grid: TimeGrid = order_grid(7)
    # start-up steps of a lower order are exact for lower degrees only, so measure one full-order transition
    from ranvier.diffusion.settings import settle
    from ranvier.diffusion.transitions import transition

    settings = settle("unipc", order, variant, form=form, halves=False, lower_order_final=False)
    n = 5
    step = transition(grid, n, order, settings, corrected)
    s, t = n - 1, n
    a, g, lam = grid.alphas, grid.sigmas, grid.lams
    for j in range(order + 2):
        outputs = [torch.tensor([lam[s - k] ** j], dtype=torch.float64) for k in range(order)]
        x = torch.tensor([0.7], dtype=torch.float64)
        new = torch.tensor([lam[t] ** j], dtype=torch.float64)
        found = step.corrector(x, outputs, new) if corrected else step.predictor(x, outputs)  # pyright: ignore[reportOptionalCall]
        nodes, weights = np.polynomial.legendre.leggauss(40)
        points = (lam[t] - lam[s]) / 2 * nodes + (lam[t] + lam[s]) / 2
        sign = 1 if form == "data" else -1
        integral = float(np.sum(weights * np.exp(sign * points) * points**j) * (lam[t] - lam[s]) / 2)
        wanted = g[t] / g[s] * 0.7 + g[t] * integral if form == "data" else a[t] / a[s] * 0.7 - a[t] * integral
        exact = j <= order if corrected else j < order
        error = abs(found.item() - wanted)
        if exact:
            assert error <= 5e-15
        elif j == order + corrected:
            assert error >= 1e-5


SLOPES = {
    "ddim": ({"solver": "ddim"}, 1.0, 0.15),
    "dpmpp_2m": ({"solver": "dpmpp_2m"}, 1.98, 0.15),
    "unip-3": ({"solver": "unip", "order": 3}, 3.1, 0.2),
    "unipc-1": ({"solver": "unipc", "order": 1}, 2.0, 0.15),
    "unipc-2 bh1": ({"solver": "unipc", "variant": "bh1"}, 3.03, 0.15),
    "unipc-2 bh2": ({"solver": "unipc"}, 3.0, 0.15),
    "unipc-2 noise": ({"solver": "unipc", "variant": "bh1", "form": "noise"}, 2.97, 0.15),
    "unipc-2 ratio 1.1": ({"solver": "dc", "ratios": lambda n, h: [1.1] * n}, 1.05, 0.15),
    "unipc-2 ratio 1 + 2h²": ({"solver": "dc", "ratios": lambda n, h: [1 + 2 * h * h] * n}, 3.01, 0.15),
}


@pytest.fixture(scope="module")
def exact_end(mixture: GaussianMixture, schedule) -> Tensor:
    """Where the samples of `noise()` end, by 1,500 steps of a Runge-Kutta method."""
    start = torch.randn(16, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return reference_trajectory(mixture, start, time_grid(schedule, 1, "logsnr", 0.9, 0.05), substeps=1500)[-1]


@pytest.mark.parametrize("name", SLOPES)
def test_convergence_order(
    name: str, mixture: GaussianMixture, noise: Noise, order_grid, schedule, exact_end: Tensor
) -> None:
    arguments, slope, tolerance = SLOPES[name]
    errors = []
    for n in (80, 160):
        h = (schedule.lam(0.05) - schedule.lam(0.9)) / n
        given = {k: v(n, h) if k == "ratios" else v for k, v in arguments.items()}
        found = sample_ode(mixture, noise(), order_grid(n), lower_order_final=False, **given)
        errors.append((found - exact_end).square().mean().sqrt().item())
    assert math.log2(errors[0] / errors[1]) == pytest.approx(slope, abs=tolerance)


def test_unipc_3_is_of_order_four(mixture: GaussianMixture, noise: Noise, order_grid) -> None:
    """Over two doublings: the error passes zero near N = 80, so that single slopes scatter around 4."""
    exact = reference_trajectory(mixture, noise(), order_grid(1), substeps=3000)[-1]
    errors = [
        (sample_ode(mixture, noise(), order_grid(n), "unipc", 3, lower_order_final=False) - exact)
        .square()
        .mean()
        .sqrt()
        for n in (40, 160)
    ]
    assert math.log2(errors[0] / errors[1]) / 2 == pytest.approx(4, abs=0.25)


@pytest.mark.parametrize("solver", ["dc", "unipc", "unip", "dpmpp_2m", "ddim"])
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("n", [1, 2, 3, 5, 8])
def test_evaluations_are_counted(mixture: GaussianMixture, noise: Noise, schedule, solver, order: int, n: int) -> None:
    counted = Counted(mixture)
    found = sample_ode(counted, noise(3), time_grid(schedule, n), solver, order, ratios=[1.1] * n)
    assert counted.calls == n
    assert found.isfinite().all()


def test_ones_are_unipc_bit_by_bit(mixture: GaussianMixture, noise: Noise, schedule: NoiseSchedule) -> None:
    grid = time_grid(schedule, 8)
    plain = sample_ode(mixture, noise(), grid, "unipc")
    assert torch.equal(plain, sample_ode(mixture, noise(), grid, "dc", ratios=[1.0] * 8))
    assert torch.equal(plain, sample_ode(mixture, noise(), grid))
    assert not torch.equal(plain, sample_ode(mixture, noise(), grid, ratios=[1.0] * 7 + [1.1]))


def test_compensation_as_defined(mixture: GaussianMixture, noise: Noise, schedule: NoiseSchedule) -> None:
    """DDIM with ratios, written out: the compensated output stays in the buffer."""
    grid, ratios = time_grid(schedule, 5), [1, 1, 1.2, 0.8, 1.1]
    x, outputs = noise(), []
    t = grid.times
    for n in range(5):
        outputs.append((x - grid.sigmas[n] * mixture(x, t[n])) / grid.alphas[n])
        if n >= 2:
            target = ratios[n] * t[n] + (1 - ratios[n]) * t[n - 1]
            at = [t[n - k] for k in range(3)]
            outputs[n] = sum(
                outputs[n - k] * math.prod((target - at[j]) / (at[k] - at[j]) for j in range(3) if j != k)
                for k in range(3)
            )  # fmt: skip
        ratio = grid.sigmas[n + 1] / grid.sigmas[n]
        x = ratio * x + (grid.alphas[n + 1] - ratio * grid.alphas[n]) * outputs[n]
    found = sample_ode(mixture, noise(), grid, "ddim", ratios=ratios)
    torch.testing.assert_close(found, x, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [(2, 5), (2, 3, 4), (2, 3, 4, 4), (1, 2, 3, 2, 2)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_any_shape_and_dtype(shape: tuple[int, ...], dtype: torch.dtype, schedule: NoiseSchedule) -> None:
    seen = []

    def denoise(x: Tensor, t: float) -> Tensor:
        seen.append(x.dtype)
        return 0.5 * x

    x = torch.randn(shape).to(dtype)
    found = sample_ode(denoise, x, time_grid(schedule, 4), ratios=[1, 1, 1.1, 0.9], thresholding=True)
    assert found.shape == x.shape
    assert found.dtype == dtype
    assert set(seen) == {dtype}
    assert found.isfinite().all()


def test_half_precision_is_updated_in_float32(schedule: NoiseSchedule) -> None:
    x = torch.randn(4, 8).half()
    grid = time_grid(schedule, 6)
    half = sample_ode(lambda x, t: torch.tanh(x.float()).to(x), x, grid)
    full = sample_ode(lambda x, t: torch.tanh(x.half().float()).half().float(), x.float(), grid)
    torch.testing.assert_close(half.float(), full, rtol=2e-3, atol=2e-3)


COMBINATIONS = list(
    itertools.product(
        ["bh1", "bh2"], [0.0, 1e-3], [True, False], [1, 2, 3], ["epsilon", "sample", "v", "flow"], ["data", "noise"]
    )
)


@pytest.mark.parametrize("base", ["vp_linear", "discrete", "flow"])
def test_finite_for_every_combination(base: str) -> None:
    schedules = {
        "vp_linear": NoiseSchedule.vp_linear(), "discrete": NoiseSchedule.from_betas(linear_betas()),
        "flow": NoiseSchedule.flow(),
    }  # fmt: skip
    x = torch.randn(2, 3, dtype=torch.float64)
    for variant, end, final, order, prediction, form in COMBINATIONS:
        grid = time_grid(schedules[base], 5, t_start=0.99, t_end=end)
        found = sample_ode(
            lambda x, t: torch.tanh(x), x, grid, "dc", order, variant, prediction,  # pyright: ignore[reportArgumentType]
            ratios=[1, 1, 1.1, 0.9, 1.2], lower_order_final=final, form=form,  # pyright: ignore[reportArgumentType]
        )  # fmt: skip
        assert found.isfinite().all(), (variant, end, final, order, prediction, form)


def test_last_step_without_noise_is_the_prediction(mixture: GaussianMixture, noise: Noise, schedule) -> None:
    grid = time_grid(schedule, 1, t_end=0.0)
    wanted = (noise() - grid.sigmas[0] * mixture(noise(), 1.0)) / grid.alphas[0]
    for form in ("data", "noise"):
        found = sample_ode(mixture, noise(), grid, form=form)  # pyright: ignore[reportArgumentType]
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def test_predictions_agree(mixture: GaussianMixture, noise: Noise, schedule: NoiseSchedule) -> None:
    """The same field in every parametrisation gives the same sample."""
    grid = time_grid(schedule, 6)

    def as_prediction(name: str) -> Denoiser:
        def denoise(x: Tensor, t: float) -> Tensor:
            a, s, eps = schedule.alpha(t), schedule.sigma(t), mixture(x, t)
            x0 = (x - s * eps) / a
            return {"sample": x0, "v": a * eps - s * x0, "flow": eps - x0, "score": -eps / s}[name]

        return denoise

    wanted = sample_ode(mixture, noise(), grid)
    for name in ("sample", "v", "flow", "score"):
        torch.testing.assert_close(
            sample_ode(as_prediction(name), noise(), grid, prediction=name), wanted, rtol=1e-9, atol=1e-10
        )


def test_guidance(mixture: GaussianMixture, noise: Noise, schedule: NoiseSchedule) -> None:
    grid, part = time_grid(schedule, 5), mixture.part([0])
    wanted = sample_ode(lambda x, t: 3 * part(x, t) - 2 * mixture(x, t), noise(), grid)
    pair = sample_ode((part, mixture), noise(), grid, guidance=3.0)
    torch.testing.assert_close(pair, wanted, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(sample_ode(Guided(part, mixture, 3.0), noise(), grid), wanted, rtol=1e-9, atol=1e-11)
    assert torch.equal(sample_ode(Guided(part, mixture, 1), noise(), grid), sample_ode(part, noise(), grid))
    with pytest.raises(ArgumentError, match="guidance"):
        sample_ode(part, noise(), grid, guidance=3.0)
    with pytest.raises(ArgumentError, match="guidance"):
        sample_ode((part, mixture), noise(), grid)


def test_dynamic_threshold() -> None:
    x0 = torch.linspace(-3, 3, 201).view(1, 1, 201)
    found = Threshold(0.9)(x0)
    assert found.abs().max() == pytest.approx(1)
    torch.testing.assert_close(Threshold(0.9)(0.1 * x0), 0.1 * x0)
    torch.testing.assert_close(Threshold(0.9, largest=1.0)(x0), x0.clamp(-1, 1))


def test_callback_and_gradients(mixture: GaussianMixture, noise: Noise, schedule: NoiseSchedule) -> None:
    grid, seen = time_grid(schedule, 4), []
    x = noise().requires_grad_()
    out = sample_ode(mixture, x, grid, callback=lambda n, t, x: seen.append((n, t)))
    assert seen == list(zip(range(1, 5), grid.times[1:], strict=True))
    out.sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_refuses(mixture: GaussianMixture, noise: Noise, schedule: NoiseSchedule) -> None:
    grid = time_grid(schedule, 4)
    with pytest.raises(ArgumentError, match="4 for NFE 4, got 3"):
        sample_ode(mixture, noise(), grid, ratios=[1.0] * 3)
    with pytest.raises(ArgumentError, match=r"ratios\[2\]"):
        sample_ode(mixture, noise(), grid, ratios=[1, 1, math.nan, 1])
    with pytest.raises(ArgumentError, match="did you mean"):
        sample_ode(mixture, noise(), grid, "unicp")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ArgumentError, match="prediction"):
        sample_ode(mixture, noise(), grid, prediction="epsilno")
    with pytest.raises(ShapeError, match="noise"):
        sample_ode(mixture, torch.zeros(0, 4), grid)
    with pytest.raises(ShapeError, match="returned shape"):
        sample_ode(lambda x, t: x[:, :1], noise(), grid)
    with pytest.raises(ArgumentError, match="order"):
        sample_ode(mixture, noise(), grid, order=0)
    with pytest.raises(ArgumentError, match="skip_corrector"):
        sample_ode(mixture, noise(), grid, skip_corrector=[-1])
