"""What a motion detector decides for a movie, how often it is right, and how much of it can be taken away."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ranvier.data.samples import Samples
from ranvier.errors import ArgumentError, ShapeError
from ranvier.models.hdsnn import HDSNN, largest_share

SHARE = 0.15  # of the voxels of a movie
SPARSE = 0.25  # of the weights: below it, events cost less than the convolution


def decide(logits: Tensor, share: float = SHARE) -> Tensor:
    """Evidence `[B, classes]` of whole movies from `logits` `[T, B, classes, H, W]`: their mean over the `share` of the
    voxels whose largest logit is largest, all times and places together (Grimaldi and Perrinet 2023, as their code)."""
    if logits.dim() != 5 or not logits.numel():
        raise ShapeError(f"logits must be [T, B, classes, H, W] and not empty, got shape {tuple(logits.shape)}")
    evidence: list[Tensor] = []
    for movie in logits.unbind(1):
        best = movie.amax(1)
        kept = best >= largest_share(best, share)
        evidence.append((movie * kept.unsqueeze(1)).sum((0, 2, 3)) / kept.sum())
    return torch.stack(evidence)


@dataclass(frozen=True)
class MotionAccuracy:
    """How often a motion is named right.

    Attributes:
        n: movies.
        movie: share of the movies that one decision a movie, see `decide`, names right.
        step: share of the steps that a decision a step, by the mean evidence of the step, names right.
        by_step: the same for every step on its own, `[T − skip]`.
    """

    n: int
    movie: float
    step: float
    by_step: tuple[float, ...]


@torch.no_grad()
def evaluate_motion(
    model: HDSNN,
    samples: Samples,
    share: float = SHARE,
    skip: int | None = None,
    batch_size: int = 8,
    by_events: bool = False,
) -> MotionAccuracy:
    """How often `model` names the motion of movies that have one motion each.

    Args:
        share: of the voxels that a movie is decided by; a step has the model's own `readout_fraction`.
        by_events: compute event by event instead of by convolution: faster when most of the weights are 0.
        skip: first frames that do not count, as their history is not whole; by default as many as there are delays.
    """
    first = model.layer.kernel[0] if skip is None else skip
    right, by_step, n = 0, torch.zeros(0, dtype=torch.float64), 0
    with _evaluating(model):
        for start in range(0, len(samples), batch_size):
            x, y = samples.batch(range(start, min(start + batch_size, len(samples))))
            if y.dim() != 1:
                raise ArgumentError("samples must have one motion a movie; the training part of 'motion' has several")
            if x.shape[0] <= first:
                raise ArgumentError(f"movies of {x.shape[0]} frames have none left after the first {first} are skipped")
            x = x.to(model.layer.weight.device)
            logits = (model.logits_by_events(x) if by_events else model.logits(x))[first:]
            y = y.to(logits.device)
            steps = (model.evidence(logits).argmax(-1) == y).double().sum(1).cpu()
            by_step = steps if not n else by_step + steps
            right += int((decide(logits, share).argmax(-1) == y).sum())
            n += len(y)
    curve = by_step / n
    return MotionAccuracy(n, right / n, float(curve.mean()), tuple(curve.tolist()))


@contextmanager
def _evaluating(model: HDSNN) -> Iterator[None]:
    before = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(before)


def pruning_curve(
    model: HDSNN,
    samples: Samples,
    fractions: Iterable[float],
    share: float = SHARE,
    progress: Callable[[float, float], None] | None = None,
) -> list[tuple[float, float]]:
    """`(fraction, accuracy)` with only the largest weights kept, over the whole layer, and no training after it."""
    return _reduced(model, samples, fractions, lambda net, fraction: net.layer.prune_(fraction), share, progress)


def shortening_curve(
    model: HDSNN,
    samples: Samples,
    delays: Iterable[int],
    share: float = SHARE,
    progress: Callable[[float, float], None] | None = None,
) -> list[tuple[float, float]]:
    """`(kept delays, accuracy)` with only the shortest delays kept, and no training after it."""
    return _reduced(model, samples, delays, lambda net, kept: net.layer.shorten_(int(kept)), share, progress)


def _reduced(
    model: HDSNN,
    samples: Samples,
    values: Iterable[float],
    reduce: Callable[[HDSNN, float], object],
    share: float,
    progress: Callable[[float, float], None] | None,
) -> list[tuple[float, float]]:
    points: list[tuple[float, float]] = []
    for value in values:
        net = copy.deepcopy(model).project_()
        reduce(net, value)
        # The history that a shortened net needs is shorter, but all are judged by the same frames.
        sparse = int(net.layer.weight.count_nonzero()) <= SPARSE * net.layer.weight.numel()
        points.append((float(value), evaluate_motion(net, samples, share, by_events=sparse).movie))
        if progress is not None:
            progress(*points[-1])
    return points


@dataclass(frozen=True)
class HalfSaturation:
    """A pruning curve: accuracy(q) = chance + (top − chance) / (1 + exp(−(log10 q − `log_half`) / `slope`))."""

    log_half: float
    slope: float
    top: float
    chance: float

    @property
    def fraction(self) -> float:
        """Where the accuracy is halfway between chance and the top."""
        return 10**self.log_half

    @property
    def gain(self) -> float:
        """How many times fewer weights that is."""
        return 1 / self.fraction


def fit_half_saturation(points: Sequence[tuple[float, float]], chance: float) -> HalfSaturation:
    """Least squares over a grid of half-saturations and slopes, refined; the top is the accuracy at the largest
    fraction. Needs three points or more."""
    if len(points) < 3 or any(q <= 0 for q, _ in points):
        raise ArgumentError(f"points must be three or more (fraction above 0, accuracy), got {list(points)!r}")
    q, accuracy = (np.array(values) for values in zip(*sorted(points), strict=True))
    x, top = np.log10(q), float(accuracy[-1])
    low, high, narrow, wide = float(x[0]) - 0.5, float(x[-1]) + 0.5, 0.01, 2.0
    half = slope = 0.0
    for _ in range(6):
        halves, slopes = np.linspace(low, high, 61), np.geomspace(narrow, wide, 61)
        z = np.clip((x - halves[:, None, None]) / slopes[:, None], -50, 50)
        error = ((chance + (top - chance) / (1 + np.exp(-z)) - accuracy) ** 2).sum(-1)
        i, j = np.unravel_index(error.argmin(), error.shape)
        half, slope = float(halves[i]), float(slopes[j])
        step, ratio = (high - low) / 20, (wide / narrow) ** (1 / 20)
        low, high, narrow, wide = half - step, half + step, slope / ratio, slope * ratio
    return HalfSaturation(half, slope, top, chance)
