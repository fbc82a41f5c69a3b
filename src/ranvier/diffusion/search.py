"""The search for compensation ratios: greedy, one transition after the other, against a reference trajectory."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from ranvier.diffusion.coefficients import Form, Variant
from ranvier.diffusion.grid import TimeGrid
from ranvier.diffusion.guidance import Counted, Denoiser, guidance_of, resolve
from ranvier.diffusion.minimise import adamw_minimum, grid_minimum, polynomial_minimum
from ranvier.diffusion.prediction import Threshold
from ranvier.diffusion.ratios import CompensationRatios
from ranvier.diffusion.reference import reference_trajectory
from ranvier.diffusion.sampler import History, Run, check_noise, sample_ode
from ranvier.diffusion.search_loss import SearchLoss, search_loss
from ranvier.diffusion.settings import Solver, SolverSettings, settle
from ranvier.errors import ArgumentError, ShapeError

_REACH = 0.3  # how far one round of refining moves a ratio
SearchMethod = Literal["auto", "grid", "adamw", "closed_form"]


@dataclass(frozen=True)
class SearchOptions:
    """Numbers of the search methods.

    Attributes:
        low, high: range of the ratios; AdamW does not know it.
        points: of the grid, evenly spaced over the range.
        golden: golden-section steps in the bracket around the best point.
        iterations, lr, weight_decay: of AdamW; the best iterate is kept. The decay pulls ρ towards 0, as published.
        substeps, ddim_steps: of the reference, see `reference_trajectory`.
        rounds: of refining all ratios together after the greedy pass: each in turn is moved to where the error at the
            very end is smallest (an addition to the publication).
        record: anything plain to note in the result.
    """

    low: float = 0.0
    high: float = 2.0
    points: int = 41
    golden: int = 12
    iterations: int = 40
    lr: float = 0.1
    weight_decay: float = 0.01
    substeps: int = 20
    ddim_steps: int = 999
    rounds: int = 0
    record: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.low < 1 < self.high:
            raise ArgumentError(f"the range of ratios must contain 1 (no compensation), got {self.low} .. {self.high}")
        for name in ("points", "golden", "iterations", "rounds"):
            if getattr(self, name) < (3 if name == "points" else 0):
                raise ArgumentError(f"{name} is too small: {getattr(self, name)!r}")


def search_compensation_ratios(
    denoiser: Denoiser | tuple[Denoiser, Denoiser],
    noise: Tensor,
    grid: TimeGrid,
    reference: Literal["rk4", "ddim"] | Tensor = "rk4",
    method: SearchMethod = "auto",
    loss: SearchLoss = "mse",
    solver: Solver = "dc",
    order: int = 2,
    variant: Variant = "bh2",
    prediction: str = "epsilon",
    guidance: float | None = None,
    thresholding: bool | Threshold = False,
    *,
    form: Form = "data",
    dc_order: int = 2,
    corrector: bool | Literal["auto"] = True,
    skip_corrector: Collection[int] = (),
    lower_order_final: bool = True,
    halves: bool = True,
    options: SearchOptions | None = None,
    model: str = "",
) -> CompensationRatios:
    """Ratios that keep the sampler closest to a reference trajectory from the same `noise`.

    For every transition from number `dc_order` on, the ratio is chosen whose next state (after the corrector, which
    evaluates the denoiser again) is nearest to the reference at that very time, and the step is taken with it.

    Args:
        denoiser, grid and the settings from `solver` to `halves`: as in `sample_ode`. Spiking denoisers need more
            noises than the published 10 (32 to 64) and a search without gradients.
        noise: `[B, ...]`, the start of all trajectories.
        reference: "rk4" or "ddim" (see `reference_trajectory`), or the states `[N + 1, B, ...]` at the grid's times,
            of a teacher, say.
        method: "grid" (points in a range, then golden section; needs no gradient), "adamw" (the published one;
            differentiates the denoiser), "closed_form" (the loss of a step without corrector is a polynomial in ρ,
            minimised exactly; steps with corrector are refused), or "auto": closed form where it is exact, else grid.
        loss: "mse", or "huber" and "median", which samples that switch modes cannot dominate.
        corrector: "auto" searches with and without it and keeps what ends nearer to the reference: at few steps and
            much guidance the corrector itself can diverge.
        model: noted in the result, so that the ratios are not used for another model.

    Returns the ratios with their provenance; `found` holds the errors at the end with and without compensation.
    """
    check_noise(noise)
    evaluate = resolve(denoiser, guidance)
    options = options or SearchOptions()
    if method not in ("auto", "grid", "adamw", "closed_form"):
        raise ArgumentError(f"method must be 'auto', 'grid', 'adamw' or 'closed_form', got {method!r}")
    if isinstance(reference, Tensor):
        states, source = _given_states(reference, noise, grid), "given"
    else:
        with torch.no_grad():
            states = reference_trajectory(
                evaluate, noise, grid, reference, prediction, thresholding, options.substeps, options.ddim_steps
            )
        source = reference
    found: list[CompensationRatios] = []
    for corrects in (True, False) if corrector == "auto" else (bool(corrector),):
        settings = settle(
            solver, order, variant, prediction, form, dc_order, corrects, skip_corrector, lower_order_final, halves,
            thresholding,
        )  # fmt: skip
        search = _Search(evaluate, noise, grid, settings, states, method, loss, options)
        values = search.refined(search.greedy())
        found.append(search.result(values, source, model))
    return min(found, key=lambda ratios: ratios.found["error"])


class _Search:
    """One greedy pass."""

    def __init__(
        self, denoiser: Denoiser, noise: Tensor, grid: TimeGrid, settings: SolverSettings, states: Tensor,
        method: SearchMethod, loss: SearchLoss, options: SearchOptions,
    ) -> None:  # fmt: skip
        self.counted = Counted(denoiser)
        self.noise, self.grid, self.settings, self.states = noise, grid, settings, states
        self.method, self.loss_name, self.loss, self.options = method, loss, search_loss(loss), options
        self.run = Run(self.counted, grid, settings, noise.dtype)

    def greedy(self) -> tuple[float, ...]:
        """The ratios of all transitions."""
        history = History(self.settings)
        x = self.noise.to(self.run.work)
        values: list[float] = []
        with torch.no_grad():
            for n in range(self.grid.nfe):
                if n == 0:
                    history.push(self.grid.times[0], self.run.output(x, 0))
                rho = self._ratio(n, x, history) if history.can_compensate else 1.0
                history.compensate(rho)
                values.append(rho)
                x, new = self.run.advance(n, x, history.outputs)
                if new is not None:
                    history.push(self.grid.times[n + 1], new)
        return tuple(values)

    @torch.no_grad()
    def refined(self, values: tuple[float, ...]) -> tuple[float, ...]:
        """Coordinate descent on the error at the end, from `values`; never worse than they are."""
        best = list(values)

        def end(n: int, rho: float) -> float:
            return float(self.loss(self.sample((*best[:n], rho, *best[n + 1 :])), self.states[-1]))

        for _ in range(self.options.rounds):
            for n in range(self.settings.dc_order, len(best)):
                low, high = (min(max(best[n] + d, self.options.low), self.options.high) for d in (-_REACH, _REACH))
                found = grid_minimum(partial(end, n), low, high, 7, self.options.golden // 2)
                if end(n, found) < end(n, best[n]):
                    best[n] = found
        return tuple(best)

    def _ratio(self, n: int, x: Tensor, history: History) -> float:
        exact = self.run.steps[n].corrector is None
        if exact and self.loss_name == "mse" and self.method in ("auto", "closed_form"):
            return polynomial_minimum(
                lambda rho: self._next(n, x, history, rho, predict_only=True) - self.states[n + 1],
                self.settings.dc_order, self.options.low, self.options.high,
            )  # fmt: skip
        if self.method == "closed_form":
            reason = "the loss must be 'mse'" if exact else f"transition {n} has a corrector"
            raise ArgumentError(f"method 'closed_form' is not exact here: {reason}; use 'auto', or corrector=False")
        loss: Callable[[float | Tensor], Tensor] = lambda rho: self.loss(  # noqa: E731
            self._next(n, x, history, rho), self.states[n + 1].to(x)
        )
        if self.method == "adamw":
            o = self.options
            with torch.enable_grad():
                return adamw_minimum(loss, o.iterations, o.lr, o.weight_decay, x)
        return grid_minimum(loss, self.options.low, self.options.high, self.options.points, self.options.golden)

    def _next(self, n: int, x: Tensor, history: History, rho: float | Tensor, predict_only: bool = False) -> Tensor:
        outputs = [history.compensated(rho), *history.outputs[1:]]
        step = self.run.steps[n]
        if predict_only or n + 1 == self.grid.nfe or step.corrector is None:
            return step.predictor(x, outputs)
        return self.run.advance(n, x, outputs)[0]

    def result(self, values: tuple[float, ...], source: str, model: str) -> CompensationRatios:
        """The ratios with the errors that they end in."""
        wanted = self.states[-1]
        searched = self.counted.calls
        with torch.no_grad():
            errors = [float(self.loss(self.sample(v), wanted)) for v in (values, (1.0,) * len(values))]
        return CompensationRatios(
            values=values, times=self.grid.times, grid_kind=self.grid.kind,
            schedule=self.grid.schedule.fingerprint(), settings=self.settings,
            guidance=guidance_of(self.counted), model=model,
            found={
                "reference": source, "method": self.method, "loss": self.loss_name, "noises": len(self.noise),
                "error": errors[0], "error_of_ones": errors[1], "evaluations": searched, "rounds": self.options.rounds,
                **self.options.record,
            },
        )  # fmt: skip

    def sample(self, values: tuple[float, ...]) -> Tensor:
        """The sampler's end with these ratios."""
        s = self.settings
        return sample_ode(
            self.counted, self.noise, self.grid, s.solver, s.order, s.variant, s.prediction, None, values,
            False if s.threshold is None else s.threshold, form=s.form, dc_order=s.dc_order, corrector=s.corrector,
            skip_corrector=s.skip_corrector, lower_order_final=s.lower_order_final, halves=s.halves,
        )  # fmt: skip


def _given_states(states: Tensor, noise: Tensor, grid: TimeGrid) -> Tensor:
    expected = (grid.nfe + 1, *noise.shape)
    if tuple(states.shape) != expected:
        raise ShapeError(
            f"reference must hold the states at all times of the grid, {expected}, got {tuple(states.shape)}"
        )
    return states
