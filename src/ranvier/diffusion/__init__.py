"""Few-step sampling of diffusion models: UniPC with dynamic compensation (DC-Solver), and spiking denoisers."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ranvier.diffusion.coefficients import UniPCCoefficients, unipc_coefficients
from ranvier.diffusion.compensation import lagrange_compensate, lagrange_weights
from ranvier.diffusion.frechet import frechet_distance
from ranvier.diffusion.generate import Generated, denoiser_of, generate, load_denoiser, name_of, schedule_of, search_for
from ranvier.diffusion.grid import TimeGrid, custom_grid, time_grid
from ranvier.diffusion.guidance import Counted, Denoiser, Guided, NetworkDenoiser
from ranvier.diffusion.mixture import GaussianMixture
from ranvier.diffusion.phi import phi
from ranvier.diffusion.picture import image_grid, save_png
from ranvier.diffusion.prediction import Threshold
from ranvier.diffusion.ratios import CompensationRatios
from ranvier.diffusion.reference import reference_trajectory
from ranvier.diffusion.regression import CascadePolynomialRegression, OutsideFitWarning
from ranvier.diffusion.sampler import sample_ode
from ranvier.diffusion.schedule import NoiseSchedule, linear_betas, scaled_linear_betas
from ranvier.diffusion.search import SearchOptions, search_compensation_ratios

if TYPE_CHECKING:
    from ranvier.diffusion.scheduler import DCSolverMultistepScheduler, NoRatiosWarning

    DCSolverScheduler = DCSolverMultistepScheduler

_NEEDS_DIFFUSERS = ("DCSolverMultistepScheduler", "NoRatiosWarning")

__all__ = [
    "CascadePolynomialRegression", "CompensationRatios", "Counted", "DCSolverMultistepScheduler",
    "DCSolverScheduler", "Denoiser", "GaussianMixture", "Generated", "Guided", "NetworkDenoiser", "NoRatiosWarning",
    "NoiseSchedule", "OutsideFitWarning", "SearchOptions", "Threshold", "TimeGrid", "UniPCCoefficients",
    "custom_grid", "denoiser_of", "frechet_distance", "generate", "image_grid", "lagrange_compensate",
    "lagrange_weights", "linear_betas", "load_denoiser", "name_of", "phi", "reference_trajectory", "sample_ode",
    "save_png", "scaled_linear_betas", "schedule_of", "search_compensation_ratios", "search_for", "time_grid",
    "unipc_coefficients",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "DCSolverScheduler":
        name = "DCSolverMultistepScheduler"
    if name in _NEEDS_DIFFUSERS:
        return getattr(import_module("ranvier.diffusion.scheduler"), name)
    raise AttributeError(f"module 'ranvier.diffusion' has no attribute {name!r}")
