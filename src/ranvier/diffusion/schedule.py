"""Noise schedules: how much of the image and how much noise a sample holds at a time, in float64."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ranvier.errors import ArgumentError

Array = NDArray[np.float64]
Value = TypeVar("Value", float, Array, Tensor)


class NoiseSchedule:
    """The marginals `x_t = α(t) x_0 + σ(t) ε` of a diffusion, with the half log-SNR `λ = ln(α/σ)` and its inverse.

    Made by `vp_linear`, `cosine`, `from_alphas_cumprod`, `from_betas` or `flow`. `alpha`, `sigma`, `lam` and
    `inverse_lam` take a number, a NumPy array or a tensor and return the same kind; everything is computed in float64.
    Times lie in `0 .. t_max`, larger is noisier; at t = 0 there is no noise (λ = +∞).

    Attributes:
        kind: "vp_linear", "cosine", "discrete" or "flow".
        t_max: the noisiest time.
        t_min: the usual last time of a grid, at which some noise is left.
        steps: N of a discrete schedule, whose time n (from 0) is t = (n + 1)/N; else None.
    """

    def __init__(
        self,
        kind: Literal["vp_linear", "cosine", "discrete", "flow"],
        parameters: dict[str, Any],
        log_alpha: Callable[[Array], Array],
        time_of_log_alpha: Callable[[Array], Array],
        t_max: float,
        t_min: float,
        steps: int | None = None,
    ) -> None:
        self.kind = kind
        self.parameters = parameters
        self.t_max, self.t_min, self.steps = t_max, t_min, steps
        self._log_alpha, self._time_of_log_alpha = log_alpha, time_of_log_alpha

    @classmethod
    def vp_linear(cls, b0: float = 0.1, b1: float = 20.0) -> NoiseSchedule:
        """Continuous variance-preserving schedule: `ln α = −t²(b1 − b0)/4 − t b0/2` on t in (0, 1]."""
        if not 0 < b0 < b1 or not math.isfinite(b1):
            raise ArgumentError(f"b0 and b1 must satisfy 0 < b0 < b1, got {b0!r} and {b1!r}")

        def log_alpha(t: Array) -> Array:
            return -0.25 * t**2 * (b1 - b0) - 0.5 * t * b0

        def time(log_a: Array) -> Array:
            c = -4 * (b1 - b0) * log_a  # = 2 (b1 − b0) ln(1 + e^(−2λ))
            return c / ((np.sqrt(b0**2 + c) + b0) * (b1 - b0))

        return cls("vp_linear", {"b0": b0, "b1": b1}, log_alpha, time, 1.0, 1e-3)

    @classmethod
    def cosine(cls, s: float = 0.008) -> NoiseSchedule:
        """Cosine schedule of Nichol and Dhariwal: `α ∝ cos((t + s)/(1 + s) · π/2)` on t in (0, 0.9946]."""
        if not 0 < s < 1:
            raise ArgumentError(f"s must lie in (0, 1), got {s!r}")
        at_zero = math.log(math.cos(s / (1 + s) * math.pi / 2))

        def log_alpha(t: Array) -> Array:
            return np.log(np.cos((t + s) / (1 + s) * (math.pi / 2))) - at_zero

        def time(log_a: Array) -> Array:
            return np.maximum(2 * (1 + s) / math.pi * np.arccos(np.minimum(np.exp(log_a + at_zero), 1.0)) - s, 0.0)

        return cls("cosine", {"s": s}, log_alpha, time, 0.9946, 1e-3)

    @classmethod
    def from_alphas_cumprod(cls, a: ArrayLike | Tensor) -> NoiseSchedule:
        """Discrete schedule of a trained model from its `ᾱ_n`, n = 0 .. N − 1, which fall inside (0, 1).

        Time n is t = (n + 1)/N; between the times, and towards α = 1 at t = 0, ln α is linear in t.
        """
        given = np.asarray(a.detach().cpu() if isinstance(a, Tensor) else a, dtype=np.float64)
        if given.ndim != 1 or len(given) < 2:
            raise ArgumentError(f"alphas_cumprod must be a list of at least two numbers, got shape {given.shape}")
        if not bool(np.all(np.diff(given) < 0)) or not (given[0] < 1 and given[-1] > 0):
            raise ArgumentError("alphas_cumprod must fall strictly inside (0, 1); see rescaled schedules for zero SNR")
        n = len(given)
        times = np.arange(n + 1) / n
        logs = np.concatenate([[0.0], 0.5 * np.log(given)])

        def log_alpha(t: Array) -> Array:
            return np.interp(t, times, logs)

        def time(log_a: Array) -> Array:
            return np.interp(log_a, logs[::-1], times[::-1])

        digest = hashlib.sha256(given.tobytes()).hexdigest()[:16]
        return cls("discrete", {"alphas_cumprod": digest}, log_alpha, time, 1.0, 1.0 / n, n)

    @classmethod
    def from_betas(cls, b: ArrayLike | Tensor) -> NoiseSchedule:
        """Discrete schedule from `β_n` in (0, 1), n = 0 .. N − 1: `ᾱ_n = Π (1 − β)`, multiplied in float64."""
        given = np.asarray(b.detach().cpu() if isinstance(b, Tensor) else b, dtype=np.float64)
        if given.ndim != 1 or not bool(np.all((given > 0) & (given < 1))):
            raise ArgumentError("betas must be a list of numbers in (0, 1)")
        return cls.from_alphas_cumprod(np.cumprod(1 - given))

    @classmethod
    def flow(cls, shift: float = 1.0) -> NoiseSchedule:
        """Rectified flow: `α = 1 − σ`, `σ = shift · t/(1 + (shift − 1) t)` on t in (0, 1 − 1e-6].

        At t = 1 there is no image left (λ = −∞), so the grid starts a millionth before.
        """
        if not shift > 0 or not math.isfinite(shift):
            raise ArgumentError(f"shift must be a positive number, got {shift!r}")

        def log_alpha(t: Array) -> Array:
            return np.log1p(-shift * t / (1 + (shift - 1) * t))

        def time(log_a: Array) -> Array:
            sigma = -np.expm1(log_a)
            return sigma / (shift - (shift - 1) * sigma)

        return cls("flow", {"shift": shift}, log_alpha, time, 1 - 1e-6, 1e-3)

    def alpha(self, t: Value) -> Value:
        """α(t), the share of the image."""
        return self._same_kind(t, lambda v: np.exp(self._log_alpha(v)))

    def sigma(self, t: Value) -> Value:
        """σ(t), the standard deviation of the noise: √(1 − α²), or 1 − α for a flow."""
        return self._same_kind(t, lambda v: np.exp(self._log_sigma(v)))

    def lam(self, t: Value) -> Value:
        """λ(t) = ln(α/σ), the half log-SNR; falls with t, +∞ at t = 0."""
        return self._same_kind(t, lambda v: self._log_alpha(v) - self._log_sigma(v))

    def inverse_lam(self, lam: Value) -> Value:
        """The time at which the half log-SNR is `lam`."""

        def time(v: Array) -> Array:
            half = -np.logaddexp(0, -v) if self.kind == "flow" else -0.5 * np.logaddexp(0, -2 * v)
            return self._time_of_log_alpha(half)

        return self._same_kind(lam, time)

    def label(self, t: float) -> float:
        """What a network trained on this schedule is told for time `t`: n = tN − 1 of a discrete schedule, else t."""
        return t if self.steps is None else max(t * self.steps - 1.0, 0.0)

    def describe(self) -> dict[str, Any]:
        """Kind and parameters as plain data: equal for equal schedules."""
        return {"kind": self.kind, "steps": self.steps, **self.parameters}

    def fingerprint(self) -> str:
        """A short name that equal schedules share on every machine."""
        return hashlib.sha256(json.dumps(self.describe(), sort_keys=True).encode()).hexdigest()[:16]

    def __repr__(self) -> str:
        inside = ", ".join(f"{key}={value}" for key, value in self.describe().items() if value is not None)
        return f"NoiseSchedule({inside})"

    def _log_sigma(self, t: Array) -> Array:
        with np.errstate(divide="ignore"):
            log_a = self._log_alpha(t)
            return np.log(-np.expm1(log_a)) if self.kind == "flow" else 0.5 * np.log(-np.expm1(2 * log_a))

    def _same_kind(self, value: Value, function: Callable[[Array], Array]) -> Value:
        if isinstance(value, Tensor):
            there = torch.from_numpy(function(value.detach().cpu().double().numpy()))
            return cast("Value", there.to(value.device, value.dtype if value.is_floating_point() else torch.float64))
        found = function(np.asarray(value, dtype=np.float64))
        return cast("Value", float(found) if found.ndim == 0 else found)


def linear_betas(steps: int = 1000, first: float = 1e-4, last: float = 0.02) -> list[float]:
    """The betas of Ho, Jain and Abbeel (2020): `steps` numbers from `first` to `last`."""
    return np.linspace(first, last, steps).tolist()


def scaled_linear_betas(steps: int = 1000, first: float = 0.00085, last: float = 0.012) -> list[float]:
    """The betas of Stable Diffusion: squares of numbers from √`first` to √`last`.

    Latent diffusion on FFHQ and LSUN-Bedroom takes 0.0015 and 0.0195, on LSUN-Church 0.0015 and 0.0155.
    """
    return (np.linspace(math.sqrt(first), math.sqrt(last), steps) ** 2).tolist()


def as_times(times: Sequence[float], what: str = "times") -> tuple[float, ...]:
    """`times` as floats; `ArgumentError` unless they are finite, at least two, not negative and strictly falling."""
    values = tuple(float(t) for t in times)
    if len(values) < 2:
        raise ArgumentError(f"{what} must hold at least a first and a last time, got {len(values)}")
    for i, t in enumerate(values):
        if not math.isfinite(t) or t < 0:
            raise ArgumentError(f"{what}[{i}] must be a finite time >= 0, got {t!r}")
        if i and not t < values[i - 1]:
            raise ArgumentError(
                f"{what} must be strictly decreasing (from noise to image), but {what}[{i - 1}] = {values[i - 1]:g} is "
                f"followed by {t:g}"
            )
    return values
