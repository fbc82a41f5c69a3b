"""Neurons tuned to orientation, the weights between them, and ensembles of oriented stimuli. Angles are in degrees."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ranvier.circuits.recurrent import LinearRecurrent, circulant
from ranvier.errors import ArgumentError

FWHM_TO_SIGMA = 1 / (2 * math.sqrt(2 * math.log(2)))


def wrapped(difference: Tensor, period: float = 180.0) -> Tensor:
    """The same angle in [−period/2, period/2)."""
    return (difference + period / 2) % period - period / 2


def _positive(name: str, value: float) -> float:
    if not (isinstance(value, int | float) and 0 < value < math.inf):
        raise ArgumentError(f"{name} must be a positive number, got {value!r}")
    return float(value)


def _count(name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ArgumentError(f"{name} must be an integer >= 1, got {value!r}")
    return value


@dataclass(frozen=True)
class TunedPopulation:
    """`neurons` Gaussian tuning curves of full width at half maximum `fwhm`, spread evenly over a circle.

    Neuron i prefers −period/2 + period·i/N.
    """

    neurons: int = 126
    fwhm: float = 20.0
    period: float = 180.0

    def __post_init__(self) -> None:
        _count("neurons", self.neurons)
        _positive("fwhm", self.fwhm)
        _positive("period", self.period)

    def preferred(self) -> Tensor:
        """Preferred stimuli `[N]`, float64."""
        return -self.period / 2 + self.period * torch.arange(self.neurons, dtype=torch.float64) / self.neurons

    def drive(self, stimuli: Tensor) -> Tensor:
        """f(s) = exp(−d(θ_i, s)² / 2σ²): `[..., N]` for stimuli `[...]`."""
        distance = wrapped(stimuli.unsqueeze(-1).double() - self.preferred(), self.period)
        return torch.exp(-0.5 * (distance / (self.fwhm * FWHM_TO_SIGMA)) ** 2)


def stimulus_grid(stimuli: int = 420, period: float = 180.0) -> Tensor:
    """`stimuli` angles −period/2 + period (k + ½)/S, float64."""
    return -period / 2 + period * (torch.arange(_count("stimuli", stimuli), dtype=torch.float64) + 0.5) / stimuli


def orientation_weights(population: TunedPopulation, excitation: float = 5.0, width: float = 12.0,
                        inhibition: float = -0.3) -> Tensor:  # fmt: skip
    """W_ij = (w_E exp(−d(θ_i, θ_j)² / 2σ_E²) + w_I) / N, `[N, N]`: circulant and symmetric."""
    _positive("width", width)
    theta = population.preferred()
    distance = wrapped(theta - theta[0], population.period)
    column = (excitation * torch.exp(-0.5 * (distance / width) ** 2) + inhibition) / population.neurons
    return circulant(column)


def orientation_network(
    population: TunedPopulation | None = None, excitation: float = 5.0, width: float = 12.0, inhibition: float = -0.3,
    stimuli: int = 420, tau: float = 1.0,
) -> LinearRecurrent:  # fmt: skip
    """The orientation network, scaled so that its largest response with unit gains is 1.

    Raises `ArgumentError` when the weights are not stable.
    """
    population = population or TunedPopulation()
    weights = orientation_weights(population, excitation, width, inhibition)
    peak = LinearRecurrent(weights).steady_state(population.drive(stimulus_grid(stimuli, population.period))).max()
    return LinearRecurrent(weights, tau, scale=1 / float(peak))


def uniform_ensemble(stimuli: int = 420) -> Tensor:
    """Equal probabilities `[S]`."""
    return torch.full((_count("stimuli", stimuli),), 1 / stimuli, dtype=torch.float64)


def orientation_ensemble(
    p_adapt: float, centre: float = 0.0, stimuli: int = 420, bins: int = 21, period: float = 180.0
) -> Tensor:
    """Probabilities `[S]` of an ensemble with an adapter, as in Benucci et al. (2013).

    The circle has `bins` bins. The adapter's probability goes to three of them: half to the bin around `centre`, a
    quarter to each neighbour; the rest is uniform over the others.
    """
    if not (isinstance(p_adapt, int | float) and 0 <= p_adapt <= 1):
        raise ArgumentError(f"p_adapt must be a probability, got {p_adapt!r}")
    if _count("bins", bins) < 4 or stimuli < bins:
        raise ArgumentError(f"bins must be at least 4 and at most the {stimuli} stimuli, got {bins}")
    away = wrapped(stimulus_grid(stimuli, period) - centre, period).abs() * bins / period
    # 0: adapter's bin, 1: neighbours, 2: the rest
    ring = torch.where(away < 0.5, 0, torch.where(away < 1.5, 1, 2))
    share = torch.tensor([p_adapt / 2, p_adapt / 2, 1 - p_adapt], dtype=torch.float64)
    counts = torch.bincount(ring, minlength=3)
    if int(counts.min()) == 0:
        raise ArgumentError(f"stimuli: {stimuli} are too few for {bins} bins")
    return (share / counts)[ring]
