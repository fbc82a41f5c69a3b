"""What adaptation does to a population: maxima and minima, shifts of the peaks, average responses, covariances."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ranvier.circuits.orientation import wrapped
from ranvier.errors import ShapeError


def peaks(curves: Tensor, period: float = 180.0) -> Tensor:
    """Where each tuning curve has its maximum, `[..., N]` in degrees, for curves `[..., S, N]` over an even grid.

    The parabola through the largest value and its neighbours (around the circle) gives a place between grid points.
    """
    steps = curves.shape[-2]
    if steps < 3:
        raise ShapeError(f"curves must be [..., S, N] with at least 3 stimuli, got shape {tuple(curves.shape)}")
    top = curves.argmax(-2, keepdim=True)
    left, middle, right = (curves.gather(-2, (top + shift) % steps).squeeze(-2) for shift in (-1, 0, 1))
    bend = left - 2 * middle + right
    offset = torch.where(bend < 0, 0.5 * (left - right) / torch.where(bend < 0, bend, -1.0), 0.0)
    return wrapped(-period / 2 + period * (top.squeeze(-2) + 0.5 + offset) / steps, period)


def width(curve: Tensor, period: float = 180.0) -> float:
    """Full width of one tuning curve `[S]` with a single peak, half way between its minimum and maximum."""
    steps = len(curve)
    half = (curve.max() + curve.min()) / 2
    rolled = torch.roll(curve, steps // 2 - int(curve.argmax()))
    above = (rolled >= half).nonzero().flatten()
    first, last = int(above[0]), int(above[-1])
    left = first - (rolled[first] - half) / (rolled[first] - rolled[first - 1]) if first > 0 else torch.tensor(0.0)
    right = last + (rolled[last] - half) / (rolled[last] - rolled[last + 1]) if last + 1 < steps else torch.tensor(last)
    return float(right - left) * period / steps


def tuning_shift(before: Tensor, after: Tensor, adapter: float = 0.0, period: float = 180.0) -> Tensor:
    """How far each neuron's peak moves away from the adapter, `[..., N]` in degrees; negative is towards it."""
    start = peaks(before, period)
    moved = wrapped(peaks(after, period) - start, period)
    return moved * torch.sign(wrapped(start - adapter, period))


def average_response(curves: Tensor, p: Tensor) -> Tensor:
    """Mean response of each neuron under `p` (`[..., S]`), `[..., N]`."""
    return (p.unsqueeze(-1) * curves).sum(-2)


def variation(average: Tensor) -> Tensor:
    """Coefficient of variation (population standard deviation over mean) across the last axis."""
    return average.std(-1, correction=0) / average.mean(-1)


def signal_covariance(curves: Tensor, p: Tensor) -> Tensor:
    """Covariance of the responses under `p`, `[..., N, N]`."""
    mean = average_response(curves, p)
    second = (p.unsqueeze(-1) * curves).transpose(-1, -2) @ curves
    return second - mean.unsqueeze(-1) * mean.unsqueeze(-2)


def signal_correlation(covariance: Tensor, reference: Tensor) -> Tensor:
    """`covariance` scaled by the variances of `reference` (the un-adapted, uniform one; Benucci et al. 2013)."""
    sd = reference.diagonal(dim1=-2, dim2=-1).sqrt()
    return covariance / (sd.unsqueeze(-1) * sd.unsqueeze(-2))


def covariance_distance(covariance: Tensor, reference: Tensor) -> Tensor:
    """‖C − C₀‖ / ‖C₀‖ in the Frobenius norm."""
    return torch.linalg.matrix_norm(covariance - reference) / torch.linalg.matrix_norm(reference)


@dataclass(frozen=True)
class Effects:
    """What adaptation to one ensemble does; responses are divided by the largest un-adapted one."""

    maximum_ratio: Tensor  # [N] largest response after over before
    minimum_change: Tensor  # [N]
    shift: Tensor  # [N] degrees away from the adapter
    variation_before: float
    variation_after: float
    covariance_before: float
    covariance_after: float


def effects(before: Tensor, after: Tensor, biased: Tensor, uniform: Tensor, adapter: float = 0.0,
            period: float = 180.0) -> Effects:  # fmt: skip
    """Compare un-adapted and adapted tuning curves (`[S, N]`), for the ensembles `biased` and `uniform` (`[S]`)."""
    peak = before.max()
    before, after = before / peak, after / peak
    reference = signal_covariance(before, uniform)
    distances = [float(covariance_distance(signal_covariance(r, biased), reference)) for r in (before, after)]
    variations = [float(variation(average_response(r, biased))) for r in (before, after)]
    return Effects(
        after.amax(0) / before.amax(0), after.amin(0) - before.amin(0), tuning_shift(before, after, adapter, period),
        variations[0], variations[1], distances[0], distances[1],
    )  # fmt: skip
