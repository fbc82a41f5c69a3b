"""From a trained denoising run to images, and to the ratios of its sampler."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ranvier.diffusion.grid import TimeGrid, time_grid
from ranvier.diffusion.guidance import Counted, NetworkDenoiser
from ranvier.diffusion.ratios import CompensationRatios
from ranvier.diffusion.regression import CascadePolynomialRegression
from ranvier.diffusion.sampler import sample_ode
from ranvier.diffusion.schedule import NoiseSchedule
from ranvier.diffusion.search import SearchMethod, SearchOptions, search_compensation_ratios
from ranvier.diffusion.search_loss import SearchLoss
from ranvier.diffusion.settings import Solver
from ranvier.errors import ArgumentError
from ranvier.models import Denoiser

GridName = Literal["time_uniform", "logsnr", "time_quadratic", "karras"]


@dataclass(frozen=True)
class Generated:
    """Images `[N, C, H, W]` in 0 .. 1, their classes (None for an unconditional net), and evaluations a batch."""

    images: Tensor
    classes: Tensor | None
    evaluations: int


def load_denoiser(run: str | os.PathLike[str]) -> Denoiser:
    """The net of a denoising run, in evaluation mode; `ArgumentError` for a run of another kind."""
    from ranvier.train import load_run

    net, recipe = load_run(run)
    if not isinstance(net, Denoiser):
        raise ArgumentError(
            f"{Path(run)} holds {recipe.model.name!r}, which is not a denoiser; train one with denoising"
        )
    return net


def schedule_of(net: Denoiser) -> NoiseSchedule:
    """The noise schedule that a net was trained with."""
    return NoiseSchedule.from_betas(net.betas)


def denoiser_of(
    net: Denoiser, classes: Tensor | None = None, guidance: float | None = None, differentiable: bool = False
) -> NetworkDenoiser:
    """A net as a function of sample and time, for `sample_ode`."""
    if guidance not in (None, 1.0) and not net.num_classes:
        raise ArgumentError(f"guidance {guidance:g}: this net knows no classes")
    return NetworkDenoiser(net, schedule_of(net), classes, guidance, net.null, differentiable)


def name_of(net: Denoiser) -> str:
    """A name that equal weights share: ratios are found for one net."""
    digest = hashlib.sha256()
    for key, value in sorted(net.state_dict().items()):
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return f"{getattr(getattr(net, 'card', None), 'name', type(net).__name__)}:{digest.hexdigest()[:16]}"


def generate(
    net: Denoiser,
    count: int,
    nfe: int = 8,
    *,
    solver: Solver = "dc",
    order: int = 2,
    guidance: float | None = None,
    classes: Sequence[int] | None = None,
    ratios: CompensationRatios | CascadePolynomialRegression | Sequence[float] | None = None,
    corrector: bool = True,
    grid: GridName = "time_uniform",
    seed: int = 0,
    batch_size: int = 64,
) -> Generated:
    """Sample `count` images.

    Args:
        net: a trained denoiser (`load_denoiser`).
        nfe: evaluations of the net for each image, each of them over its T steps.
        solver, order, corrector: as in `sample_ode`.
        guidance: scale of classifier-free guidance; None or 1 for none. Needs a net with classes.
        classes: labels, repeated over the images; by default all classes in turn.
        ratios: found for this net, grid and guidance (their settings replace those given here), or a regression.
        grid: kind of time grid.
        seed: of the noise, drawn on the CPU, so that images do not depend on batch size or device.

    Returns images, classes and the number of evaluations of each batch.
    """
    for name, value in (("count", count), ("batch_size", batch_size)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ArgumentError(f"{name} must be an integer >= 1, got {value!r}")
    times = time_grid(schedule_of(net), nfe, grid)
    labels = _labels(net, count, classes)
    options: dict[str, Any] = {"solver": solver, "order": order, "corrector": corrector, "prediction": net.prediction}
    if isinstance(ratios, CascadePolynomialRegression):
        ratios = ratios.predict(nfe, 1.0 if guidance is None else guidance, net.T)
    elif isinstance(ratios, CompensationRatios):
        ratios.check(times, None, guidance, name_of(net))
        options = ratios.options()
    noise = torch.randn(
        count, net.in_channels, *net.img_size, generator=torch.Generator().manual_seed(seed), dtype=torch.float32
    )
    device = next(net.parameters()).device
    parts: list[Tensor] = []
    evaluations = 0
    for start in range(0, count, batch_size):
        some = None if labels is None else labels[start : start + batch_size].to(device)
        counted = Counted(denoiser_of(net, some, guidance))
        x = noise[start : start + batch_size].to(device)
        parts.append(sample_ode(counted, x, times, ratios=ratios, **options).cpu())
        evaluations = counted.calls
    return Generated(((torch.cat(parts) + 1) / 2).clamp(0, 1), labels, evaluations)


def search_for(
    net: Denoiser,
    nfe: int = 8,
    *,
    noises: int = 32,
    guidance: float | None = None,
    solver: Solver = "dc",
    order: int = 2,
    dc_order: int = 2,
    corrector: bool | Literal["auto"] = True,
    grid: GridName = "time_uniform",
    reference: Literal["rk4", "ddim"] = "ddim",
    reference_net: Denoiser | None = None,
    method: SearchMethod = "auto",
    loss: SearchLoss = "mse",
    options: SearchOptions | None = None,
    seed: int = 1,
) -> CompensationRatios:
    """Compensation ratios for `generate`.

    Args:
        net, nfe, guidance, solver, order, grid: as in `generate`.
        noises: noise samples of the search (classes in turn); 32 to 64 for spiking nets.
        dc_order, corrector, method, loss, options: as in `search_compensation_ratios`.
        reference: the fine trajectory, "ddim" (999 steps) or "rk4".
        reference_net: follow this net's trajectory instead: a teacher, or the same net with more time steps.
        seed: of the noises; other than that of `generate`, so that nothing is tuned on what is shown.
    """
    if isinstance(noises, bool) or not isinstance(noises, int) or noises < 1:
        raise ArgumentError(f"noises must be an integer >= 1, got {noises!r}")
    times = time_grid(schedule_of(net), nfe, grid)
    device = next(net.parameters()).device
    noise = torch.randn(noises, net.in_channels, *net.img_size, generator=torch.Generator().manual_seed(seed)).to(
        device
    )
    labels = _labels(net, noises, None)
    labels = None if labels is None else labels.to(device)
    denoiser = denoiser_of(net, labels, guidance, differentiable=method == "adamw")
    given: Literal["rk4", "ddim"] | Tensor = reference
    options = options or SearchOptions()
    if reference_net is not None:
        given = _teacher(reference_net, noise, labels, guidance, times, reference, options)
    options.record.update({"T": net.T, "seed": seed})
    return search_compensation_ratios(
        denoiser, noise, times, given, method, loss, solver, order, prediction=net.prediction, dc_order=dc_order,
        corrector=corrector, options=options, model=name_of(net),
    )  # fmt: skip


def _teacher(
    net: Denoiser, noise: Tensor, labels: Tensor | None, guidance: float | None, times: TimeGrid,
    reference: Literal["rk4", "ddim"], options: SearchOptions,
) -> Tensor:  # fmt: skip
    from ranvier.diffusion.reference import reference_trajectory

    return reference_trajectory(
        denoiser_of(net, labels, guidance), noise, times, reference, net.prediction, substeps=options.substeps,
        ddim_steps=options.ddim_steps,
    )  # fmt: skip


def _labels(net: Denoiser, count: int, classes: Sequence[int] | None) -> Tensor | None:
    if not net.num_classes:
        if classes is not None:
            raise ArgumentError("classes: this net is unconditional")
        return None
    wanted = list(range(net.num_classes)) if classes is None else list(classes)
    if not wanted or any(isinstance(c, bool) or not isinstance(c, int) or not 0 <= c < net.num_classes for c in wanted):
        raise ArgumentError(f"classes must be labels in 0 .. {net.num_classes - 1}, got {classes!r}")
    return torch.tensor([wanted[i % len(wanted)] for i in range(count)])
