"""Few-step sampling of diffusion models: UniPC with dynamic compensation (DC-Solver), and spiking denoisers."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ranvier.diffusion.coefficients import UniPCCoefficients, unipc_coefficients
from ranvier.diffusion.compensation import lagrange_compensate, lagrange_weights
from ranvier.diffusion.grid import TimeGrid, custom_grid, time_grid
from ranvier.diffusion.guidance import Counted, Denoiser, Guided, NetworkDenoiser
from ranvier.diffusion.mixture import GaussianMixture
from ranvier.diffusion.phi import phi
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
    "CascadePolynomialRegression", "CompensationRatios", "Counted", "DCSolverMultistepScheduler", "DCSolverScheduler",
    "Denoiser", "GaussianMixture", "Guided", "NetworkDenoiser", "NoRatiosWarning", "NoiseSchedule",
    "OutsideFitWarning", "SearchOptions", "Threshold", "TimeGrid", "UniPCCoefficients", "custom_grid",
    "lagrange_compensate", "lagrange_weights", "linear_betas", "phi", "reference_trajectory", "sample_ode",
    "scaled_linear_betas", "search_compensation_ratios", "time_grid", "unipc_coefficients",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "DCSolverScheduler":
        name = "DCSolverMultistepScheduler"
    if name in _NEEDS_DIFFUSERS:
        return getattr(import_module("ranvier.diffusion.scheduler"), name)
    raise AttributeError(f"module 'ranvier.diffusion' has no attribute {name!r}")
