"""Time grids: at which times a sampler evaluates the denoiser."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ranvier.diffusion.schedule import NoiseSchedule, as_times
from ranvier.errors import ArgumentError, nearest

GridKind = Literal["time_uniform", "logsnr", "time_quadratic", "karras", "custom"]
KINDS = ("time_uniform", "logsnr", "time_quadratic", "karras")
_KARRAS_POWER = 7.0


@dataclass(frozen=True)
class TimeGrid:
    """`N + 1` strictly decreasing times of a schedule, for N evaluations of a denoiser; see `time_grid`.

    Attributes:
        schedule: where the times belong.
        times: t_0 (noise) .. t_N (image); the denoiser is evaluated at all but the last.
        kind: how they were chosen.
    """

    schedule: NoiseSchedule
    times: tuple[float, ...]
    kind: GridKind = "custom"

    def __post_init__(self) -> None:
        times = as_times(self.times)
        if times[0] > self.schedule.t_max + 1e-12:
            raise ArgumentError(
                f"times[0] = {times[0]:g} is beyond the schedule's noisiest time {self.schedule.t_max:g}"
            )
        object.__setattr__(self, "times", times)
        values = np.asarray(times)
        object.__setattr__(self, "_alphas", tuple(self.schedule.alpha(values).tolist()))
        object.__setattr__(self, "_sigmas", tuple(self.schedule.sigma(values).tolist()))
        object.__setattr__(self, "_lams", tuple(self.schedule.lam(values).tolist()))

    @property
    def nfe(self) -> int:
        """Evaluations of the denoiser, N."""
        return len(self.times) - 1

    @property
    def alphas(self) -> tuple[float, ...]:
        """α at the times."""
        return self._alphas  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def sigmas(self) -> tuple[float, ...]:
        """σ at the times; the last one is 0 where the grid ends at t = 0."""
        return self._sigmas  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def lams(self) -> tuple[float, ...]:
        """Half log-SNR at the times, increasing; the last one may be +∞."""
        return self._lams  # pyright: ignore[reportAttributeAccessIssue]

    def __len__(self) -> int:
        return len(self.times)


def time_grid(
    schedule: NoiseSchedule,
    n: int,
    kind: Literal["time_uniform", "logsnr", "time_quadratic", "karras"] = "time_uniform",
    t_start: float | None = None,
    t_end: float | None = None,
) -> TimeGrid:
    """`n` steps from `t_start` down to `t_end`.

    Args:
        schedule: the noise schedule.
        n: steps, which is the number of evaluations (NFE), at least 1.
        kind: uniform in t ("time_uniform", what DC-Solver uses), in λ ("logsnr"), in √t ("time_quadratic"), or
            Karras et al. (2022), where (σ/α)^(1/7) is uniform.
        t_start: the noisiest time, by default `schedule.t_max`.
        t_end: the last time, by default `schedule.t_min`; 0 ends without noise, which "logsnr" and "karras" cannot.
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ArgumentError(f"n (the number of function evaluations) must be an integer >= 1, got {n!r}")
    if kind not in KINDS:
        raise ArgumentError(f"kind must be a kind of time grid, got {kind!r}{nearest(str(kind), KINDS)}")
    first = schedule.t_max if t_start is None else float(t_start)
    last = schedule.t_min if t_end is None else float(t_end)
    if not 0 <= last < first <= schedule.t_max:
        raise ArgumentError(
            f"t_start and t_end must satisfy 0 <= t_end < t_start <= {schedule.t_max:g}, got {first!r} and {last!r}"
        )
    if last == 0 and kind in ("logsnr", "karras"):
        raise ArgumentError(f"kind {kind!r} needs t_end > 0: without noise the log-SNR is infinite")
    share = np.linspace(0, 1, n + 1)
    if kind == "time_uniform":
        times = first + share * (last - first)
    elif kind == "time_quadratic":
        times = (np.sqrt(first) + share * (np.sqrt(last) - np.sqrt(first))) ** 2
    elif kind == "logsnr":
        low, high = schedule.lam(first), schedule.lam(last)
        times = schedule.inverse_lam(low + share * (high - low))
    else:
        noise = np.exp(-schedule.lam(np.array([first, last])) / _KARRAS_POWER)
        times = schedule.inverse_lam(-_KARRAS_POWER * np.log(noise[0] + share * (noise[1] - noise[0])))
    values: list[float] = times.tolist()
    values[0], values[-1] = first, last  # free of the rounding of the way there and back
    return TimeGrid(schedule, tuple(values), kind)


def custom_grid(schedule: NoiseSchedule, times: Sequence[float]) -> TimeGrid:
    """A grid of given times of `schedule`, strictly decreasing; `ArgumentError` otherwise."""
    return TimeGrid(schedule, as_times(times))
