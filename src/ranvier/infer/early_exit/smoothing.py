"""The smoothing constant α: searched together with the threshold, or fitted like a temperature."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ranvier.errors import ArgumentError
from ranvier.infer.early_exit.calibrate import Calibration, calibrate
from ranvier.infer.early_exit.criteria import Criterion, DynamicConfidence, check_recorded

ALPHAS = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 60.0)


def calibrate_alpha(
    logits: Tensor, labels: Tensor, alphas: Sequence[float] = ALPHAS,
    make: Callable[[float], Criterion] = lambda alpha: DynamicConfidence(alpha=alpha), tolerance: float = 0.0,
    margin: float = 0.0,
) -> tuple[Criterion, Calibration]:  # fmt: skip
    """The smoothing constant and the threshold with the fewest mean steps on the calibration set, found together.

    Args:
        logits, labels, tolerance, margin: as in `calibrate`.
        alphas: what to try, each with every threshold; ties go to the first.
        make: from α to the criterion.
    """
    if not alphas:
        raise ArgumentError("alphas must hold at least one smoothing constant")
    best: tuple[Criterion, Calibration] | None = None
    for alpha in alphas:
        criterion = make(alpha)
        found = calibrate(logits, labels, criterion, tolerance, margin=margin)
        if best is None or found.mean_steps < best[1].mean_steps:
            best = criterion, found
    assert best is not None
    return best


def fit_alpha(logits: Tensor, labels: Tensor) -> float:
    """The α for which softmax(U_T / α) has the least cross-entropy on the calibration set (temperature scaling).

    Found by bisection: the cross-entropy is convex in 1/α. Limited to 10⁻³ … 10⁶ (a set without errors has none).
    """
    check_recorded(logits, labels)
    total = logits.double().sum(0)
    wanted = total.gather(1, labels.view(-1, 1)).mean()

    def slope(inverse: float) -> float:  # of the cross-entropy by 1/α: expected logit less the label's
        return float((torch.softmax(total * inverse, -1) * total).sum(-1).mean() - wanted)

    low, high = -6.0, 3.0  # log10 of 1/α
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if slope(10**middle) > 0 else (middle, high)
    return 10 ** -((low + high) / 2)
