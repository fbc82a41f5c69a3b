"""The steps of a sampler as linear combinations, whose weights are known before anything is evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from ranvier.diffusion.coefficients import Form, UniPCCoefficients, unipc_coefficients
from ranvier.diffusion.settings import SolverSettings


class Levels(Protocol):
    """What a step needs to know of the times: α, σ and λ at each of them (a `TimeGrid`, or a scheduler's levels)."""

    @property
    def alphas(self) -> Sequence[float]: ...
    @property
    def sigmas(self) -> Sequence[float]: ...
    @property
    def lams(self) -> Sequence[float]: ...


@dataclass(frozen=True)
class Combination:
    """`x · on_x + Σ_k on_outputs[k] m_{−k} (+ on_new · m_t)`; the newest stored output comes first."""

    on_x: float
    on_outputs: tuple[float, ...]
    on_new: float = 0.0

    def __call__(self, x: Tensor, outputs: Sequence[Tensor], new: Tensor | None = None) -> Tensor:
        """The combination of tensors of one shape; no scalar is read from a device."""
        result = x * self.on_x if self.on_x else outputs[0] * self.on_outputs[0]
        for m, weight in zip(outputs[0 if self.on_x else 1 :], self.on_outputs[0 if self.on_x else 1 :], strict=False):
            result = result.add_(m, alpha=weight)
        if new is not None:
            result = result.add_(new, alpha=self.on_new)
        return result


@dataclass(frozen=True)
class Transition:
    """One step to the next time: the predictor, and the corrector where there is one."""

    predictor: Combination
    corrector: Combination | None


def transitions(grid: Levels, settings: SolverSettings) -> tuple[Transition, ...]:
    """The N steps of `grid`; orders rise from 1 and, with `lower_order_final`, fall back to 1 at the end."""
    n_steps = len(grid.lams) - 1
    steps: list[Transition] = []
    for n in range(1, n_steps + 1):
        order = min(settings.order, n)
        if settings.lower_order_final:
            order = min(order, n_steps + 1 - n)
        last = n == n_steps
        corrects = settings.corrector and not last and (n - 1) not in settings.skip_corrector
        steps.append(transition(grid, n, order, settings, corrects))
    return tuple(steps)


def transition(grid: Levels, n: int, order: int, settings: SolverSettings, corrects: bool) -> Transition:
    """The step from time n − 1 to time n at `order`; to a time without noise it is the predicted image itself."""
    s, t = n - 1, n
    alphas, sigmas = (grid.alphas[s], grid.alphas[t]), (grid.sigmas[s], grid.sigmas[t])
    if sigmas[1] == 0:
        return Transition(_noiseless(alphas, sigmas, settings.form), None)
    lams = grid.lams[: n + 1]
    if lams[t] == lams[s]:  # a schedule that repeats its last level
        return Transition(Combination(1.0, (0.0,)), None)
    while len(set(lams[-(order + 1) :])) <= order:
        order -= 1
    if settings.solver == "ddim":
        return Transition(ddim(alphas, sigmas, settings.form), None)
    if settings.solver == "dpmpp_2m":
        return Transition(_dpmpp_2m(lams, alphas, sigmas, settings.form, order), None)
    found = unipc_coefficients(
        lams, order, settings.variant, settings.form, settings.halves, alphas=alphas, sigmas=sigmas
    )
    r = [(lam - lams[-2]) / (lams[-1] - lams[-2]) for lam in lams[-3 : -3 - (order - 1) : -1]]
    predictor = _combined(found, found.a_p, r, 0.0)
    corrector = _combined(found, found.a_c[:-1], r, found.scale * found.a_c[-1]) if corrects else None
    return Transition(predictor, corrector)


def ddim(alphas: tuple[float, float], sigmas: tuple[float, float], form: Form) -> Combination:
    """`x_t = α_t x_0 + σ_t ε` with the two estimates at s (Song, Meng and Ermon, "DDIM", ICLR 2021, η = 0)."""
    (a_s, a_t), (s_s, s_t) = alphas, sigmas
    if form == "data":
        return Combination(s_t / s_s, (a_t - s_t * a_s / s_s,))
    return Combination(a_t / a_s, (s_t - a_t * s_s / a_s,))


def _combined(found: UniPCCoefficients, a: Sequence[float], r: Sequence[float], on_new: float) -> Combination:
    """Differences written out: the weight of `(m_{−k} − m_0)/r_k` on its two outputs."""
    on_older = [found.scale * a_k / r_k for a_k, r_k in zip(a, r, strict=True)]
    return Combination(found.base_x, (found.base_m - sum(on_older) - on_new, *on_older), on_new)


def _dpmpp_2m(
    lams: Sequence[float], alphas: tuple[float, float], sigmas: tuple[float, float], form: Form, order: int
) -> Combination:
    """DPM-Solver++(2M), midpoint (Lu et al., 2022, algorithm 2); the noise form is its DPM-Solver twin."""
    first = ddim(alphas, sigmas, form)
    if order == 1:
        return first
    older, s, t = lams[-3:]
    half = 0.5 * (t - s) / (s - older)  # 1/(2r), r = h_{i−1}/h_i
    (whole,) = first.on_outputs
    return Combination(first.on_x, (whole * (1 + half), -whole * half))


def _noiseless(alphas: tuple[float, float], sigmas: tuple[float, float], form: Form) -> Combination:
    (a_s, a_t), (s_s, _) = alphas, sigmas
    if form == "data":
        return Combination(0.0, (a_t,))
    return Combination(a_t / a_s, (-a_t * s_s / a_s,))
