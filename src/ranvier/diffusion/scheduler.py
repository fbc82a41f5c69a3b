"""DC-Solver as a scheduler of the diffusers library, for its pipelines."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ranvier.diffusion.compensation import compensate
from ranvier.diffusion.grid import TimeGrid, custom_grid
from ranvier.diffusion.prediction import Threshold, convert, prediction_named
from ranvier.diffusion.ratios import CompensationRatios, as_ratios
from ranvier.diffusion.regression import CascadePolynomialRegression
from ranvier.diffusion.schedule import NoiseSchedule, as_times
from ranvier.diffusion.settings import SolverSettings, settle
from ranvier.diffusion.transitions import Transition, transition
from ranvier.errors import ArgumentError
from ranvier.extras import require

# Base class and output come from diffusers, which has no types that would help here.
_diffusers = require("diffusers", extra="diffusion")
register_to_config: Any = require("diffusers.configuration_utils", extra="diffusion").register_to_config
UniPCMultistepScheduler: Any = _diffusers.UniPCMultistepScheduler
SchedulerOutput: Any = require("diffusers.schedulers.scheduling_utils", extra="diffusion").SchedulerOutput

Ratios = Sequence[float] | Mapping[str, Any] | CompensationRatios


class NoRatiosWarning(UserWarning):
    """Ratios are configured, but none for this number of steps and guidance; the scheduler is plain UniPC then."""


@dataclass(frozen=True)
class _Levels:
    """α, σ and λ of the scheduler's levels in float64."""

    alphas: tuple[float, ...]
    sigmas: tuple[float, ...]
    lams: tuple[float, ...]


class DCSolverMultistepScheduler(UniPCMultistepScheduler):
    """UniPC with dynamic compensation, in place of any scheduler of a diffusers pipeline.

    `DCSolverMultistepScheduler.from_config(pipe.scheduler.config)` takes over the noise schedule of the pipeline.
    Without ratios it is UniPC, whose arguments it has. All scalars are computed in float64, nothing is read from the
    device, a last step without noise is finite for every combination of arguments, and half-precision latents are
    updated in float32.

    Args:
        num_train_timesteps, ..., shift_terminal: those of `diffusers.UniPCMultistepScheduler`.
        dc_order: degree K of the compensation's polynomial.
        compensation_ratios: a list of N ratios, or a mapping from "nfe:cfg" (such as "10:7.5") to lists, or what
            `CompensationRatios.to_json` returns. A list of another length than the number of steps is an error.
        cpr: what `CascadePolynomialRegression.to_json` returns, or the 36 published numbers; predicts ratios that
            `compensation_ratios` does not hold.
        compensation_clip: range of ratios from `cpr`.
        use_corrector: False for the predictor alone.

    Source: DC-Solver (arXiv 2409.03755).
    """

    order = 1

    @register_to_config
    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.0001,
        beta_end: float = 0.02,
        beta_schedule: str = "linear",
        trained_betas: np.ndarray[Any, Any] | list[float] | None = None,
        solver_order: int = 2,
        prediction_type: Literal["epsilon", "sample", "v_prediction", "flow_prediction"] = "epsilon",
        thresholding: bool = False,
        dynamic_thresholding_ratio: float = 0.995,
        sample_max_value: float = 1.0,
        predict_x0: bool = True,
        solver_type: str = "bh2",
        lower_order_final: bool = True,
        disable_corrector: list[int] = [],  # noqa: B006  (diffusers records the default)
        solver_p: Any = None,
        use_karras_sigmas: bool | None = False,
        use_exponential_sigmas: bool | None = False,
        use_beta_sigmas: bool | None = False,
        use_flow_sigmas: bool | None = False,
        flow_shift: float | None = 1.0,
        timestep_spacing: str = "linspace",
        steps_offset: int = 0,
        final_sigmas_type: str | None = "zero",
        rescale_betas_zero_snr: bool = False,
        use_dynamic_shifting: bool = False,
        time_shift_type: str = "exponential",
        sigma_min: float | None = None,
        sigma_max: float | None = None,
        shift_terminal: float | None = None,
        dc_order: int = 2,
        compensation_ratios: list[float] | dict[str, Any] | None = None,
        cpr: dict[str, Any] | list[float] | None = None,
        compensation_clip: tuple[float, float] = (0.4, 1.6),
        use_corrector: bool = True,
    ) -> None:
        given = dict(locals())
        known = inspect.signature(UniPCMultistepScheduler.__init__).parameters
        super().__init__(**{key: value for key, value in given.items() if key in known and key != "self"})
        self.dc_order = dc_order
        self.use_corrector = use_corrector
        self._cfg: float | None = None
        self._given: Any = compensation_ratios
        self._cpr = _regression(cpr, compensation_clip)
        self._settings()  # checks orders and names
        self._empty_buffers()
        self._levels: _Levels | None = None
        self._ratios: tuple[float, ...] = ()

    def set_compensation(self, ratios: Ratios | None = None, cfg: float | None = None) -> None:
        """Use these ratios (as in the constructor, or a `CompensationRatios`; None keeps them) at guidance `cfg`.

        A `CompensationRatios` is checked against time grid, settings and guidance as soon as the steps are set.
        """
        if ratios is not None:
            self._given = ratios
            plain = ratios.to_json() if isinstance(ratios, CompensationRatios) else ratios
            self.register_to_config(compensation_ratios=dict(plain) if isinstance(plain, Mapping) else list(plain))
        if cfg is not None:
            self._cfg = float(cfg)
        if self.num_inference_steps is not None:
            self._ratios = self._choose_ratios()

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: str | torch.device | None = None,
        sigmas: list[float] | None = None,
        mu: float | None = None,
        timesteps: list[int] | None = None,
    ) -> None:
        """Choose the steps: a number of them, or `timesteps` (strictly decreasing), or `sigmas` of a flow model."""
        if timesteps is not None:
            if sigmas is not None or num_inference_steps not in (None, len(timesteps)):
                raise ArgumentError("give timesteps, or sigmas, or a number of steps, not two of them")
            self._set_custom(timesteps, device)
        else:
            count = len(sigmas) if sigmas is not None else num_inference_steps
            if count is None or isinstance(count, bool) or count < 1:
                raise ArgumentError(f"num_inference_steps must be an integer >= 1, got {count!r}")
            takes = inspect.signature(UniPCMultistepScheduler.set_timesteps).parameters
            extra = {key: value for key, value in (("sigmas", sigmas), ("mu", mu)) if key in takes}
            with warnings.catch_warnings():  # diffusers converts tensors in a way that NumPy 2 deprecates
                warnings.simplefilter("ignore", DeprecationWarning)
                super().set_timesteps(int(count), device=device, **extra)
        self._empty_buffers()
        self._levels = None
        self._plans: dict[tuple[int, int, bool], Transition] = {}
        self._times = self._level_times()
        self._ratios = self._choose_ratios()

    def grid(self) -> TimeGrid:
        """The steps that are set, as a `TimeGrid` of `NoiseSchedule.from_alphas_cumprod`, for a search of ratios.

        A denoiser gets the time t = (timestep + 1)/num_train_timesteps; `grid.schedule.label(t)` is the timestep.
        """
        if self.num_inference_steps is None:
            raise ArgumentError("grid: call set_timesteps first")
        if self.config.use_flow_sigmas:
            return custom_grid(NoiseSchedule.flow(), [*self.sigmas[:-1].tolist(), float(self.sigmas[-1])])
        schedule = NoiseSchedule.from_alphas_cumprod(self.alphas_cumprod)
        times = list(self._times)
        last = float(self.sigmas[-1])
        times.append(0.0 if last == 0 else schedule.inverse_lam(-float(np.log(last))))
        return custom_grid(schedule, times)

    def solver_options(self) -> dict[str, Any]:
        """The settings as keyword arguments of `sample_ode` and `search_compensation_ratios`."""
        s = self._settings()
        return {
            "solver": "dc", "order": s.order, "variant": s.variant, "prediction": s.prediction, "form": s.form,
            "dc_order": s.dc_order, "corrector": s.corrector, "skip_corrector": s.skip_corrector,
            "lower_order_final": s.lower_order_final, "thresholding": s.threshold or False,
        }  # fmt: skip

    def convert_model_output(self, model_output: Tensor, *args: Any, sample: Tensor | None = None, **_: Any) -> Tensor:
        """The network's output as the data (or noise) that the solver works with; float32 for half precision."""
        if sample is None:
            if len(args) < 2:
                raise ArgumentError("sample is needed to convert a model output")
            sample = args[1]
        assert sample is not None
        levels, settings = self._at(), self._settings()
        i = min(self.step_index or 0, len(levels.alphas) - 2)
        work = _working(sample)
        return convert(
            model_output.to(work), sample.to(work), levels.alphas[i], levels.sigmas[i], settings.prediction,
            settings.form, settings.threshold,
        )  # fmt: skip

    def step(self, model_output: Tensor, timestep: int | Tensor, sample: Tensor, return_dict: bool = True) -> Any:
        """The sample at the next step: correct the given one, compensate the output, predict.

        Args:
            model_output: of the network at `sample`, after guidance.
            timestep: an entry of `timesteps`.
            sample: as the last call returned it.
            return_dict: a `SchedulerOutput` with `prev_sample`, or a tuple of it.
        """
        if self.num_inference_steps is None:
            raise ArgumentError("the number of steps is not known: call set_timesteps before step")
        if self.step_index is None:
            self._init_step_index(timestep)
        i = self.step_index
        if i is None or i >= len(self.timesteps):
            raise ArgumentError(f"all {len(self.timesteps)} steps are done; call set_timesteps to start again")
        output = self.convert_model_output(model_output, sample=sample)
        sample = sample.to(output.dtype)
        if self.use_corrector and i > 0 and (i - 1) not in self.disable_corrector and self.last_sample is not None:
            corrector = self._plan(i - 1, self.this_order, True).corrector
            if corrector is not None:
                sample = corrector(self.last_sample, self._newest_first(), output)
        self._push(output, i)
        self._compensate(i)
        order = self.config.solver_order
        if self.config.lower_order_final:
            order = min(order, len(self.timesteps) - i)
        self.this_order = min(order, self.lower_order_nums + 1, len(self._newest_first()))
        self.last_sample = sample
        if self.solver_p is not None:
            previous = self.solver_p.step(model_output, timestep, sample.to(model_output.dtype)).prev_sample
        else:
            previous = self._plan(i, self.this_order, False).predictor(sample, self._newest_first())
        self.lower_order_nums = min(self.lower_order_nums + 1, self.config.solver_order)
        self._step_index = i + 1
        previous = previous.to(model_output.dtype)
        return SchedulerOutput(prev_sample=previous) if return_dict else (previous,)

    def _settings(self) -> SolverSettings:
        c = self.config
        threshold = Threshold(c.dynamic_thresholding_ratio, c.sample_max_value) if c.thresholding else False
        return settle(
            "dc", c.solver_order, c.solver_type, prediction_named(c.prediction_type),
            "data" if self.predict_x0 else "noise", c.dc_order, c.use_corrector, self.disable_corrector,
            c.lower_order_final, True, threshold,
        )  # fmt: skip

    def _empty_buffers(self) -> None:
        size = max(self.config.solver_order, self.dc_order + 1)
        self.model_outputs: list[Tensor | None] = [None] * size
        self.timestep_list: list[float | None] = [None] * size
        self.lower_order_nums = 0
        self.last_sample: Tensor | None = None
        self.this_order = 1

    def _push(self, output: Tensor, i: int) -> None:
        """Append to the buffers, which a user may have replaced by shorter ones."""
        size = max(self.config.solver_order, self.dc_order + 1)
        times = [*self.timestep_list, self._times[i]]
        outputs = [*self.model_outputs, output]
        self.model_outputs = [*[None] * size, *outputs][-size:]
        self.timestep_list = [*[None] * size, *times][-size:]

    def _newest_first(self) -> list[Tensor]:
        newest: list[Tensor] = []
        for output in reversed(self.model_outputs):
            if output is None:
                break
            newest.append(output)
        return newest

    def _compensate(self, i: int) -> None:
        rho = self._ratios[i] if i < len(self._ratios) else 1.0
        count = self.dc_order + 1
        outputs, times = self._newest_first()[:count], self.timestep_list[-count:]
        known = [t for t in reversed(times) if t is not None]
        if rho != 1 and len(outputs) == count == len(known):
            self.model_outputs[-1] = compensate(outputs, known, rho)

    def _plan(self, i: int, order: int, corrects: bool) -> Transition:
        key = (i, order, corrects)
        if key not in self._plans:
            self._plans[key] = transition(self._at(), i + 1, order, self._settings(), corrects)
        return self._plans[key]

    def _at(self) -> _Levels:
        if self._levels is None:
            ratio = self.sigmas.double().numpy()
            if self.config.use_flow_sigmas:
                alphas, sigmas = 1 - ratio, ratio
            else:
                alphas = 1 / np.sqrt(ratio**2 + 1)
                sigmas = ratio * alphas
            with np.errstate(divide="ignore"):
                lams = np.log(alphas) - np.log(sigmas)
            self._levels = _Levels(tuple(alphas.tolist()), tuple(sigmas.tolist()), tuple(lams.tolist()))
        return self._levels

    def _level_times(self) -> tuple[float, ...]:
        """Times of the evaluations, in which the outputs are interpolated: strictly decreasing."""
        if self.config.use_flow_sigmas:
            return tuple(self.sigmas[:-1].tolist())
        train = self.config.num_train_timesteps
        times = [(float(t) + 1) / train for t in self.timesteps.tolist()]
        if all(a > b for a, b in pairwise(times)):
            return tuple(times)
        # Rounded time steps of Karras and exponential levels may repeat; their noise levels do not.
        schedule = NoiseSchedule.from_alphas_cumprod(self.alphas_cumprod)
        return tuple(schedule.inverse_lam(-np.log(self.sigmas[:-1].double().numpy())).tolist())

    def _set_custom(self, timesteps: Sequence[int], device: str | torch.device | None) -> None:
        values = [float(t) for t in timesteps]
        if len(values) > 1:
            as_times(values, "timesteps")
        if not values or not 0 <= values[-1] <= values[0] <= self.config.num_train_timesteps - 1:
            last = self.config.num_train_timesteps - 1
            raise ArgumentError(f"timesteps must be strictly decreasing inside 0 .. {last}, got {timesteps}")
        if self.config.use_flow_sigmas or any(t != int(t) for t in values):
            raise ArgumentError("timesteps must be integers of a discrete schedule; for flow models give sigmas")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            super().set_timesteps(len(values), device=device)
        levels = np.sqrt((1 - self.alphas_cumprod.double().numpy()) / self.alphas_cumprod.double().numpy())
        last = levels[0] if self.config.final_sigmas_type == "sigma_min" else 0.0
        self.sigmas = torch.tensor([*levels[np.asarray(values, dtype=int)], last], dtype=torch.float32)
        self.timesteps = torch.tensor(values, dtype=torch.int64, device=device)

    def _choose_ratios(self) -> tuple[float, ...]:
        """The ratios of the steps that are set; 1 where nothing is known, with a warning if something should be."""
        n, given = len(self.timesteps), self._given
        if isinstance(given, Mapping) and given.get("kind") == "compensation_ratios":
            given = CompensationRatios.from_json(dict(given), "compensation_ratios")
        if isinstance(given, CompensationRatios):
            given.check(self.grid(), self._settings(), self._cfg)
            return given.values
        if given is not None and not isinstance(given, Mapping):
            return as_ratios(given, n)
        cfg = 1.0 if self._cfg is None else self._cfg
        if given:
            for key, values in given.items():
                nfe, guidance = _key(key)
                if nfe == n and guidance == cfg:
                    return as_ratios(values, n)
        if self._cpr is not None:
            return self._cpr.predict(n, cfg)
        if given:
            warnings.warn(
                f"compensation_ratios has none for {n} steps at guidance {cfg:g} (set_compensation(cfg=...) tells the "
                f"guidance; there are {', '.join(map(str, given))}); sampling without compensation",
                NoRatiosWarning, stacklevel=3,
            )  # fmt: skip
        return (1.0,) * n


def _regression(cpr: Any, clip: Sequence[float]) -> CascadePolynomialRegression | None:
    if cpr is None:
        return None
    if isinstance(cpr, CascadePolynomialRegression):
        found = cpr
    elif isinstance(cpr, Mapping):
        found = CascadePolynomialRegression.from_json(dict(cpr), "cpr")
    else:
        found = CascadePolynomialRegression.from_official(cpr)
    found.clip = (float(clip[0]), float(clip[1]))
    return found


def _key(key: object) -> tuple[int, float]:
    nfe, colon, cfg = str(key).partition(":")
    try:
        return int(nfe), float(cfg) if colon else 1.0
    except ValueError:
        raise ArgumentError(f"compensation_ratios: a key must be 'nfe:cfg', such as '10:7.5', got {key!r}") from None


def _working(sample: Tensor) -> torch.dtype:
    return torch.float32 if sample.dtype in (torch.float16, torch.bfloat16) else sample.dtype
