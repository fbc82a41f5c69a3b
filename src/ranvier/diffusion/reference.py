"""Trajectories that count as exact: many small steps that stop exactly at a sampler's times."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from ranvier.diffusion.coefficients import Form
from ranvier.diffusion.grid import TimeGrid, custom_grid
from ranvier.diffusion.guidance import Denoiser
from ranvier.diffusion.prediction import Prediction, Threshold, convert, prediction_named, threshold_named
from ranvier.diffusion.sampler import check_noise, sample_ode
from ranvier.errors import ArgumentError

Method = Literal["rk4", "ddim"]
_NEARLY_NOISELESS = 1e-4  # a grid that ends without noise is followed to this share of its last time but one


def reference_trajectory(
    denoiser: Denoiser,
    x_T: Tensor,
    grid: TimeGrid,
    method: Method = "rk4",
    prediction: str = "epsilon",
    thresholding: bool | Threshold = False,
    substeps: int = 20,
    ddim_steps: int = 999,
) -> Tensor:
    """The states at all times of `grid`, `[N + 1, B, ...]`, the first of which is `x_T`.

    Args:
        denoiser, prediction, thresholding: as in `sample_ode`.
        method: "rk4", Runge–Kutta of order 4 in λ on `d(x/σ)/dλ = e^λ x_0` (λ < 0) and `d(x/α)/dλ = −e^(−λ) ε`
            (λ > 0), with `substeps` uniform steps of 4 evaluations in every interval;
            or "ddim" with about `ddim_steps` steps in all, uniform in t
            within every interval.

    Both stop exactly at the grid's times; nothing is interpolated.
    """
    check_noise(x_T)
    if method not in ("rk4", "ddim"):
        raise ArgumentError(f"the reference must be 'rk4', 'ddim' or a tensor of states, got {method!r}")
    for name, value in (("substeps", substeps), ("ddim_steps", ddim_steps)):
        if not isinstance(value, int) or value < 1:
            raise ArgumentError(f"{name} must be an integer >= 1, got {value!r}")
    x = x_T
    states = [x_T]
    field = _Field(denoiser, grid, prediction, threshold_named(thresholding))
    per_interval = max(1, math.ceil(ddim_steps / grid.nfe))
    for n in range(grid.nfe):
        start, end = grid.times[n], grid.times[n + 1]
        if method == "rk4":
            x = field.rk4(x, start, end, substeps)
        else:
            times = [start + (end - start) * i / per_interval for i in range(per_interval + 1)]
            times[-1] = end
            part = custom_grid(grid.schedule, times)
            x = sample_ode(denoiser, x, part, "ddim", prediction=prediction, thresholding=thresholding)
        states.append(x)
    return torch.stack(states)


class _Field:
    """The right-hand side of the diffusion ODE."""

    def __init__(self, denoiser: Denoiser, grid: TimeGrid, prediction: str, threshold: Threshold | None) -> None:
        self.denoiser, self.schedule, self.threshold = denoiser, grid.schedule, threshold
        self.prediction: Prediction = prediction_named(prediction)

    def output(self, x: Tensor, t: float, form: Form) -> Tensor:
        """The image or the noise predicted at time `t`."""
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        return convert(self.denoiser(x, t), x, alpha, sigma, self.prediction, form, self.threshold)

    def rk4(self, x: Tensor, start: float, end: float, substeps: int) -> Tensor:
        """From time `start` to `end`."""
        stop = start * _NEARLY_NOISELESS if end == 0 else end
        low, high = self.schedule.lam(start), self.schedule.lam(stop)
        h = (high - low) / substeps
        t = start
        for i in range(substeps):
            t_half = self.schedule.inverse_lam(low + (i + 0.5) * h)
            t_next = stop if i == substeps - 1 else self.schedule.inverse_lam(low + (i + 1) * h)
            x = self._step(x, t, t_half, t_next, low + i * h, h)
            t = t_next
        return self.output(x, stop, "data") * self.schedule.alpha(0.0) if end == 0 else x

    def _step(self, x: Tensor, t: float, t_half: float, t_next: float, lam: float, h: float) -> Tensor:
        # The forcing e^λ x_0 of x/σ grows with λ, that of x/α, −e^(−λ) ε, falls: take the one that is at most 1.
        form: Form = "data" if lam + h / 2 < 0 else "noise"
        sign = 1.0 if form == "data" else -1.0
        scale_of = self.schedule.sigma if form == "data" else self.schedule.alpha
        here, half, there = (sign * math.exp(sign * (lam + c * h)) for c in (0.0, 0.5, 1.0))
        s_half, s_next = scale_of(t_half), scale_of(t_next)
        u = x / scale_of(t)
        k1 = here * self.output(x, t, form)
        k2 = half * self.output(s_half * (u + h / 2 * k1), t_half, form)
        k3 = half * self.output(s_half * (u + h / 2 * k2), t_half, form)
        k4 = there * self.output(s_next * (u + h * k3), t_next, form)
        return s_next * (u + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4))
