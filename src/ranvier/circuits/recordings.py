"""Population responses before and after adaptation, in the layout of Benucci et al. (2013), and a fit to them.

The recordings themselves (anaesthetised cat V1) may not be passed on. Whoever has them stores, per recording, one
matrix for each ensemble; `synthetic_recordings` makes data of the same shape whose truth is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ranvier.circuits.objective import GainObjective
from ranvier.circuits.orientation import (
    TunedPopulation,
    orientation_ensemble,
    orientation_network,
    stimulus_grid,
    uniform_ensemble,
)
from ranvier.errors import ArgumentError, DataError

NEURON_BINS, STIMULUS_BINS = 13, 21
ADAPTER_PROBABILITIES = (0.50, 0.35, 0.35, 0.50, 0.50, 0.50, 0.50, 0.40, 0.40, 0.30, 0.30)
"""Probability of the adapter in the eleven published recordings."""

_PARAMETERS = ("alpha", "gamma", "excitation", "width", "inhibition", "fwhm")


@dataclass(frozen=True)
class Recordings:
    """Responses `[recordings, 13 preferred orientations, 21 stimuli]` under the uniform and the biased ensemble."""

    uniform: Tensor
    biased: Tensor
    p_adapt: tuple[float, ...]

    def normalised(self) -> tuple[Tensor, Tensor]:
        """Both, less each unit's un-adapted minimum and over its un-adapted amplitude."""
        low = self.uniform.amin(-1, keepdim=True)
        span = self.uniform.amax(-1, keepdim=True) - low
        if not bool((span > 0).all()):
            raise DataError("recordings: a unit does not respond to any stimulus of the uniform ensemble")
        return (self.uniform - low) / span, (self.biased - low) / span

    def group(self, lowest: float, highest: float) -> Recordings:
        """The recordings with an adapter probability in that range (0.30 to 0.40 and 0.50 are the published groups)."""
        chosen = [i for i, p in enumerate(self.p_adapt) if lowest <= p <= highest]
        if not chosen:
            raise ArgumentError(f"group: no recording has an adapter probability in [{lowest:g}, {highest:g}]")
        return Recordings(self.uniform[chosen], self.biased[chosen], tuple(self.p_adapt[i] for i in chosen))


def load_recordings(path: str | Path) -> Recordings:
    """Read an `.npz` with `uniform` and `biased` `[recordings, 13, 21]` and `p_adapt` `[recordings]`.

    Raises `DataError` for a file that is missing, damaged or of another shape.
    """
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as content:
            missing = {"uniform", "biased", "p_adapt"} - set(content.files)
            if missing:
                raise DataError(f"{path}: no array {sorted(missing)[0]!r} in it")
            arrays = {name: np.asarray(content[name], dtype=np.float64) for name in ("uniform", "biased", "p_adapt")}
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    except DataError:
        raise
    except Exception as error:  # broken archives and headers end in whatever Python's own parsers raise
        raise DataError(f"{path}: not an .npz file of numbers ({error})") from error
    return _checked(arrays, str(path))


def _checked(arrays: Mapping[str, np.ndarray], where: str) -> Recordings:
    p = arrays["p_adapt"].reshape(-1)
    shape = (len(p), NEURON_BINS, STIMULUS_BINS)
    for name in ("uniform", "biased"):
        if arrays[name].shape != shape:
            raise DataError(f"{where}: {name} must be {list(shape)}, got {list(arrays[name].shape)}")
        if not np.isfinite(arrays[name]).all():
            raise DataError(f"{where}: {name} holds NaN or infinity")
    if len(p) == 0 or not ((p > 0) & (p < 1)).all():
        raise DataError(f"{where}: p_adapt must be probabilities between 0 and 1, at least one")
    return Recordings(torch.from_numpy(arrays["uniform"]), torch.from_numpy(arrays["biased"]), tuple(p.tolist()))


def model_tuning(
    p_adapt: float, alpha: float = 10.0, gamma: float = 0.3, excitation: float = 4.0, width: float = 12.0,
    inhibition: float = -0.3, fwhm: float = 20.0, neurons: int = 78, stimuli: int = 105,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The circuit's tuning `(un-adapted, adapted)` at 13 preferred orientations and 21 stimuli, both `[13, 21]`.

    `neurons` and `stimuli` are multiples of 13 and 21; each value is the mean over its bin, the adapter is at 0°.
    """
    if neurons % NEURON_BINS or stimuli % STIMULUS_BINS:
        raise ArgumentError(f"neurons and stimuli must be multiples of 13 and 21, got {neurons} and {stimuli}")
    population = TunedPopulation(neurons, fwhm)
    circuit = orientation_network(population, excitation, width, inhibition, stimuli)
    objective = GainObjective(circuit, population.drive(stimulus_grid(stimuli)), alpha, gamma, "inverse")
    contexts = torch.stack((uniform_ensemble(stimuli), orientation_ensemble(p_adapt, stimuli=stimuli)))
    curves = objective.responses(objective.solve(contexts)).mT  # [2, N, S]
    centred = torch.roll(curves, neurons // NEURON_BINS // 2, 1)  # so that a bin lies around 0 degrees
    binned = centred.reshape(2, NEURON_BINS, -1, STIMULUS_BINS, stimuli // STIMULUS_BINS).mean((2, 4))
    return binned[0], binned[1]


def synthetic_recordings(noise: float = 0.02, seed: int = 0, **parameters: float) -> Recordings:
    """Eleven stand-ins with the published adapter probabilities: the circuit of `parameters` plus Gaussian noise."""
    generator = torch.Generator().manual_seed(seed)
    pairs = [model_tuning(p, **parameters) for p in ADAPTER_PROBABILITIES]  # pyright: ignore[reportArgumentType]
    uniform, biased = (torch.stack([pair[i] for pair in pairs]) for i in (0, 1))
    size = float(uniform.max()) * noise
    noisy = [x + size * torch.randn(x.shape, generator=generator, dtype=x.dtype) for x in (uniform, biased)]
    return Recordings(noisy[0], noisy[1], ADAPTER_PROBABILITIES)


def fit(
    recordings: Recordings, start: Mapping[str, float] | None = None, most: int = 400
) -> tuple[dict[str, float], float]:
    """Parameters of the circuit that explain `recordings` best, and the mean squared error of the normalised tuning.

    Searches α, γ, w_E, σ_E, w_I and the FWHM of the drive with Nelder-Mead (scipy), from `start` (the defaults of
    `model_tuning`); unstable circuits count as infinitely bad.
    """
    from ranvier.extras import require

    optimize = require("scipy.optimize", extra="data")
    first = {"alpha": 10.0, "gamma": 0.3, "excitation": 4.0, "width": 12.0, "inhibition": -0.3, "fwhm": 20.0}
    unknown = set(start or {}) - set(first)
    if unknown:
        raise ArgumentError(f"start: unknown parameter {sorted(unknown)[0]!r}; known: {', '.join(_PARAMETERS)}")
    first |= dict(start or {})
    wanted = [torch.stack(recordings.group(p, p).normalised()).mean(1) for p in sorted(set(recordings.p_adapt))]
    weights = [recordings.p_adapt.count(p) / len(recordings.p_adapt) for p in sorted(set(recordings.p_adapt))]

    def error(x: np.ndarray) -> float:
        given = dict(zip(_PARAMETERS, x.tolist(), strict=True))
        if min(given["alpha"], given["gamma"], given["width"], given["fwhm"]) <= 0:
            return 1e6
        total = 0.0
        for p, target, weight in zip(sorted(set(recordings.p_adapt)), wanted, weights, strict=True):
            try:
                before, after = model_tuning(p, **given)
            except ArgumentError:
                return 1e6
            low = before.amin(-1, keepdim=True)
            span = before.amax(-1, keepdim=True) - low
            total += weight * float(((torch.stack((before, after)) - low) / span - target).square().mean())
        return total

    found = optimize.minimize(
        error,
        [first[name] for name in _PARAMETERS],
        method="Nelder-Mead",
        options={"maxfev": most, "xatol": 1e-3, "fatol": 1e-9},
    )
    return dict(zip(_PARAMETERS, found.x.tolist(), strict=True)), float(found.fun)
