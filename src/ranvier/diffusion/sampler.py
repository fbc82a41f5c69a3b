"""`sample_ode`: from noise to image in N evaluations of a denoiser."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ranvier.diffusion.coefficients import Form, Variant
from ranvier.diffusion.compensation import compensate
from ranvier.diffusion.grid import TimeGrid
from ranvier.diffusion.guidance import Denoiser, guidance_of, resolve
from ranvier.diffusion.prediction import Threshold, convert
from ranvier.diffusion.settings import Solver, SolverSettings, settle
from ranvier.diffusion.transitions import Transition, transitions
from ranvier.errors import ShapeError

if TYPE_CHECKING:
    from ranvier.diffusion.ratios import CompensationRatios

Callback = Callable[[int, float, Tensor], None]


def sample_ode(
    denoiser: Denoiser | tuple[Denoiser, Denoiser],
    x_T: Tensor,
    grid: TimeGrid,
    solver: Solver = "dc",
    order: int = 2,
    variant: Variant = "bh2",
    prediction: str = "epsilon",
    guidance: float | None = None,
    ratios: CompensationRatios | Sequence[float] | None = None,
    thresholding: bool | Threshold = False,
    callback: Callback | None = None,
    *,
    form: Form = "data",
    dc_order: int = 2,
    corrector: bool = True,
    skip_corrector: Collection[int] = (),
    lower_order_final: bool = True,
    halves: bool = True,
) -> Tensor:
    """Solve the diffusion ODE from `x_T` along `grid` with exactly `grid.nfe` evaluations.

    Args:
        denoiser: `denoiser(x, t)` with t a Python number, or a pair (conditional, unconditional) with `guidance`.
        x_T: noise `[B, ...]` at the grid's first time. Half precision is kept for the denoiser's input; everything
            else is float32 then.
        grid: from `time_grid`.
        solver: "unipc" (predictor and corrector), "unip" (its predictor alone), "dpmpp_2m", "ddim"; "dc" is "unipc"
            with dynamic compensation.
        order: of UniP and UniPC, 1 to 3 in practice; the others have their own. 2 is the safe one for spiking
            denoisers, whose outputs are too coarse for differences of a higher order.
        variant: "bh1" or "bh2".
        prediction: what the denoiser returns: "epsilon", "sample", "v", "flow" or "score".
        guidance: scale of classifier-free guidance of a pair.
        ratios: N compensation ratios, for any solver; those found by `search_compensation_ratios` are checked against
            grid, settings and guidance, a plain list only for its length. None means 1 everywhere. The ratios of the
            first `dc_order` transitions have nothing to interpolate and do nothing.
        thresholding: dynamic thresholding of the predicted image (models of pixels only).
        callback: called with (n, t_n, x) after each of the N steps.
        form: solve for the predicted "data" (the better choice) or "noise".
        dc_order: degree K of the compensation's polynomial.
        corrector, skip_corrector: whether "unipc" corrects, and which transitions (from 0) it leaves uncorrected.
        lower_order_final: let the order fall to 1 in the last steps, which few steps need.
        halves: the published ½ for the coefficient of order 2 (predictor) and 1 (corrector).

    Returns the sample at the grid's last time, shaped like `x_T`. Gradients flow through it if the denoiser lets them.
    """
    settings = settle(
        solver, order, variant, prediction, form, dc_order, corrector, skip_corrector, lower_order_final, halves,
        thresholding,
    )  # fmt: skip
    check_noise(x_T)
    evaluate = resolve(denoiser, guidance)
    run = Run(evaluate, grid, settings, x_T.dtype)
    values = ratio_values(ratios, grid, settings, guidance_of(evaluate))
    x = x_T.to(run.work)
    history = History(settings)
    for n in range(grid.nfe):
        if n == 0:
            history.push(grid.times[0], run.output(x, 0))
        history.compensate(values[n])
        x, new = run.advance(n, x, history.outputs)
        if new is not None:
            history.push(grid.times[n + 1], new)
        if callback is not None:
            callback(n + 1, grid.times[n + 1], x)
    return x.to(x_T.dtype)


class History:
    """The last outputs, newest first, of which the newest may be compensated (and then stays so)."""

    def __init__(self, settings: SolverSettings) -> None:
        self.outputs: list[Tensor] = []
        self.times: list[float] = []
        self.dc_order = settings.dc_order
        self._size = max(settings.order, settings.dc_order + 1)

    def push(self, time: float, output: Tensor) -> None:
        """Add the output at `time`."""
        self.outputs = [output, *self.outputs][: self._size]
        self.times = [time, *self.times][: self._size]

    @property
    def can_compensate(self) -> bool:
        """Whether there are outputs enough for the polynomial."""
        return len(self.outputs) > self.dc_order

    def compensated(self, rho: float | Tensor) -> Tensor:
        """The newest output, compensated."""
        return compensate(self.outputs[: self.dc_order + 1], self.times[: self.dc_order + 1], rho)

    def compensate(self, rho: float) -> None:
        """Replace the newest output, for this and every later use."""
        if rho != 1 and self.can_compensate:
            self.outputs[0] = self.compensated(rho)


class Run:
    """The denoiser and the precomputed steps of one grid."""

    def __init__(self, denoiser: Denoiser, grid: TimeGrid, settings: SolverSettings, dtype: torch.dtype) -> None:
        self.denoiser, self.grid, self.settings, self.dtype = denoiser, grid, settings, dtype
        self.work = torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype
        self.steps: tuple[Transition, ...] = transitions(grid, settings)

    def output(self, x: Tensor, n: int) -> Tensor:
        """The denoiser's output at time n, converted to what the sampler stores."""
        raw = self.denoiser(x.to(self.dtype), self.grid.times[n])
        if raw.shape != x.shape:
            raise ShapeError(f"the denoiser returned shape {tuple(raw.shape)} for samples of shape {tuple(x.shape)}")
        settings = self.settings
        return convert(
            raw.to(self.work), x, self.grid.alphas[n], self.grid.sigmas[n], settings.prediction, settings.form,
            settings.threshold,
        )  # fmt: skip

    def advance(self, n: int, x: Tensor, outputs: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
        """Step n (from 0): the next sample, and the output there unless it is the last."""
        step = self.steps[n]
        predicted = step.predictor(x, outputs)
        if n + 1 == self.grid.nfe:
            return predicted, None
        new = self.output(predicted, n + 1)
        if step.corrector is None:
            return predicted, new
        return step.corrector(x, outputs, new), new


def check_noise(x_T: Tensor) -> None:
    """`ArgumentError` unless `x_T` is a batch of floating-point samples."""
    if not isinstance(x_T, Tensor) or not x_T.is_floating_point() or x_T.dim() < 2 or x_T.numel() == 0:
        given = f"{tuple(x_T.shape)} of {x_T.dtype}" if isinstance(x_T, Tensor) else type(x_T).__name__
        raise ShapeError(f"the noise must be a non-empty floating-point tensor [B, ...], got {given}")


def ratio_values(
    ratios: CompensationRatios | Sequence[float] | None,
    grid: TimeGrid,
    settings: SolverSettings,
    guidance: float | None,
) -> tuple[float, ...]:
    """The N numbers of `ratios`, checked."""
    from ranvier.diffusion.ratios import CompensationRatios, as_ratios

    if ratios is None:
        return (1.0,) * grid.nfe
    if isinstance(ratios, CompensationRatios):
        ratios.check(grid, settings, guidance)
        return ratios.values
    return as_ratios(ratios, grid.nfe)
