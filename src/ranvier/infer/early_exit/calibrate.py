"""From recorded logits to a threshold: the exact sweep, the Pareto front, oracle bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ranvier.errors import ArgumentError
from ranvier.infer.early_exit.criteria import Criterion, check_recorded


@dataclass(frozen=True)
class ExitResult:
    """What a criterion does to recorded logits.

    Attributes:
        steps: the step each sample stops at, `[N]`, from 1.
        predictions: what it then says, `[N]`.
        accuracy, mean_steps: over the samples (accuracy is NaN without labels).
        histogram: samples that stop at step 1, 2, ..., T.
    """

    steps: Tensor
    predictions: Tensor
    accuracy: float
    mean_steps: float
    histogram: list[int]


def first_above(scores: Tensor, threshold: float) -> Tensor:
    """The first step (from 1) whose score exceeds `threshold`, T where none does, `[N]` for scores `[T, N]`."""
    above = scores > threshold
    above[-1] = True
    return above.int().argmax(0) + 1


def evaluate_exit(
    logits: Tensor, labels: Tensor | None, criterion: Criterion, threshold: float | None = None, x: Tensor | None = None
) -> ExitResult:
    """Apply `criterion` to per-step logits `[T, N, K]`: the same decisions as running the net with early exit."""
    check_recorded(logits, labels)
    steps = first_above(criterion.scores(logits, x), criterion.threshold if threshold is None else threshold)
    predictions = logits.cumsum(0).argmax(-1).gather(0, (steps - 1).unsqueeze(0)).squeeze(0)
    right = float("nan") if labels is None else float((predictions == labels).double().mean())
    histogram = torch.bincount(steps - 1, minlength=len(logits)).tolist()
    return ExitResult(steps, predictions, right, float(steps.double().mean()), histogram)


@dataclass(frozen=True)
class Sweep:
    """Accuracy and mean steps for every threshold that makes a difference.

    Thresholds are ascending; entry i holds for thresholds from `thresholds[i]` (included) up to the next. `changed` is
    the share of samples that are right with early exit and wrong after all steps, or the other way round.
    """

    thresholds: Tensor
    mean_steps: Tensor
    accuracy: Tensor
    changed: Tensor

    def front(self) -> list[tuple[float, float, float]]:
        """The points (threshold, mean steps, accuracy) that no other point beats in both, by rising mean steps."""
        order = sorted(range(len(self.thresholds)), key=lambda i: (float(self.mean_steps[i]), -float(self.accuracy[i])))
        kept: list[tuple[float, float, float]] = []
        for i in order:
            point = (float(self.thresholds[i]), float(self.mean_steps[i]), float(self.accuracy[i]))
            if not kept or point[2] > kept[-1][2]:
                kept.append(point)
        return kept


def sweep(logits: Tensor, labels: Tensor, criterion: Criterion, x: Tensor | None = None) -> Sweep:
    """Every threshold at once, exactly, in O(N T log(N T)).

    A sample leaves at the first step whose score exceeds the threshold, so only the steps where its running maximum
    rises matter: as the threshold passes that maximum, the sample moves on to the next of them.
    """
    check_recorded(logits, labels)
    scores = criterion.scores(logits, x).double()
    steps, samples = scores.shape
    right = (logits.cumsum(0).argmax(-1) == labels).double()
    best = scores.cummax(0).values
    before = torch.cat((torch.full((1, samples), -torch.inf, dtype=best.dtype), best[:-1]))
    rises = (best > before)[: steps - 1]  # at the last step a sample leaves whatever its score
    # the step that a sample moves on to when the threshold reaches the maximum at step t: its next rise, or the last
    later = torch.full((samples,), steps - 1)
    onward = torch.empty((max(steps - 1, 0), samples), dtype=torch.long)
    for t in range(steps - 2, -1, -1):
        onward[t] = later
        later = torch.where(rises[t], torch.full_like(later, t), later)
    start_steps = (later + 1).double().mean()
    start_right = right.gather(0, later.unsqueeze(0)).mean()
    other = (right != right[-1]).double()
    start_changed = other.gather(0, later.unsqueeze(0)).mean()
    t, n = rises.nonzero(as_tuple=True)
    values, order = best[t, n].sort()
    t, n = t[order], n[order]
    target = onward[t, n]
    more = (target - t).double().cumsum(0) / samples
    gained = (right[target, n] - right[t, n]).cumsum(0) / samples
    turned = (other[target, n] - other[t, n]).cumsum(0) / samples
    last = torch.cat((values[1:] > values[:-1], torch.ones(min(len(values), 1), dtype=torch.bool)))  # of equal values
    thresholds = torch.cat((torch.tensor([-torch.inf], dtype=values.dtype), values[last]))
    return Sweep(
        thresholds, torch.cat((start_steps.view(1), start_steps + more[last])),
        torch.cat((start_right.view(1), start_right + gained[last])),
        torch.cat((start_changed.view(1), start_changed + turned[last])),
    )  # fmt: skip


@dataclass(frozen=True)
class Calibration:
    """A threshold and how it was found.

    Attributes:
        threshold: chosen from the front; also set in the criterion.
        accuracy, mean_steps: on the calibration set, with it.
        full_accuracy: on the calibration set after all T steps.
        front: (threshold, mean steps, accuracy) of the Pareto front.
    """

    threshold: float
    accuracy: float
    mean_steps: float
    full_accuracy: float
    steps: int
    samples: int
    front: list[tuple[float, float, float]]


def calibrate(
    logits: Tensor,
    labels: Tensor,
    criterion: Criterion,
    tolerance: float = 0.0,
    x: Tensor | None = None,
    margin: float = 0.0,
) -> Calibration:
    """Choose the threshold with the fewest mean steps whose accuracy is at least that of all T steps less `tolerance`.

    Args:
        logits, labels: `[T, N, K]` and `[N]`, of a held-out calibration set, never of the test set.
        criterion: its `threshold` is set.
        tolerance: accuracy that may be lost, as a share of the samples.
        x: the samples, for criteria that look at them.
        margin: standard errors by which the accuracy has to be above that. The fewest steps among hundreds of
            thresholds are those that were lucky on this set, and on other samples they lose more than here; 0 is the
            published rule, 1 or 2 keep what they promise. The error is that of the paired difference to all steps.

    Raises `ArgumentError` for a set with fewer samples than classes, or of a single class.
    """
    check_recorded(logits, labels)
    steps, samples, classes = logits.shape
    if not (isinstance(tolerance, int | float) and 0 <= tolerance < 1):
        raise ArgumentError(f"tolerance must be a share of the samples in [0, 1), got {tolerance!r}")
    if isinstance(margin, bool) or not (isinstance(margin, int | float) and 0 <= margin < float("inf")):
        raise ArgumentError(f"margin must be a number of standard errors >= 0, got {margin!r}")
    if samples < classes:
        raise ArgumentError(f"labels: {samples} calibration samples are too few for {classes} classes")
    if len(labels.unique()) < 2:
        raise ArgumentError(f"labels: the calibration set has samples of class {int(labels[0])} only")
    found = sweep(logits, labels, criterion, x)
    full = float((logits.sum(0).argmax(-1) == labels).double().mean())
    # counts, not shares: sums of shares differ in the last bit
    wanted = round(full * samples) - int(tolerance * samples + 1e-9)
    right = (found.accuracy * samples).round()
    enough = right >= wanted
    if margin:
        lost = found.accuracy - full
        error = ((found.changed - lost.square()).clamp(min=0) / samples).sqrt()
        enough &= right - margin * error * samples >= wanted - 1e-9
        enough[-1] = True  # all steps
    fits = enough.nonzero().flatten()
    chosen = int(fits[found.mean_steps[fits].argmin()])
    threshold = float(found.thresholds[chosen])
    criterion.threshold = threshold
    return Calibration(
        threshold, float(found.accuracy[chosen]), float(found.mean_steps[chosen]), full, steps, samples, found.front()
    )


def fixed_steps(logits: Tensor, labels: Tensor) -> list[float]:
    """Accuracy when every sample takes t steps, for t = 1..T."""
    check_recorded(logits, labels)
    return (logits.cumsum(0).argmax(-1) == labels).double().mean(1).tolist()


def smallest_sufficient(logits: Tensor, labels: Tensor, accuracy: float) -> int | None:
    """The smallest number of steps that reaches `accuracy` when every sample takes as many; None if none does."""
    return next((t + 1 for t, share in enumerate(fixed_steps(logits, labels)) if share >= accuracy), None)


@dataclass(frozen=True)
class Oracle:
    """Stopping at the first step whose prediction is right: what no criterion can beat.

    `mean_steps` counts samples that are never right with all T steps, `mean_steps_optimistic` with one.
    """

    accuracy: float
    mean_steps: float
    mean_steps_optimistic: float
    accuracy_by_steps: list[float]


def oracle(logits: Tensor, labels: Tensor) -> Oracle:
    """Upper bounds from per-step logits `[T, N, K]` and labels `[N]`."""
    check_recorded(logits, labels)
    right = logits.cumsum(0).argmax(-1) == labels
    ever = right.any(0)
    first = torch.where(ever, right.int().argmax(0) + 1, len(logits)).double()
    return Oracle(
        float(ever.double().mean()),
        float(first.mean()),
        float(torch.where(ever, first, 1.0).mean()),
        (right.int().cummax(0).values > 0).double().mean(1).tolist(),
    )


@torch.no_grad()
def record(model: Any, batches: Any, steps: int | None = None) -> tuple[Tensor, Tensor]:
    """Per-step logits `[T, N, K]` and labels `[N]` of `model` over an iterable of (x, y), in eval mode.

    `steps` makes a static image run for that many (the model's own T without it).
    """
    from ranvier.infer.early_exit.runner import eval_mode, with_steps

    logits, labels = [], []
    with eval_mode(model), with_steps(model, steps):
        for x, y in batches:
            logits.append(model(x).float().cpu())
            labels.append(torch.as_tensor(y).cpu())
    if not logits:
        raise ArgumentError("batches: the calibration set is empty")
    found = torch.cat(logits, 1), torch.cat(labels)
    check_recorded(*found)
    return found
