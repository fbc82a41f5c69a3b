"""Area under the ROC curve, ties counted half."""

from __future__ import annotations

import torch
from torch import Tensor

from ranvier.errors import ArgumentError


def auroc(score: Tensor, positive: Tensor) -> float:
    """Probability that a positive sample scores higher than a negative one (Mann-Whitney).

    Args:
        score: any shape; positive: bool of the same shape, both classes present.
    """
    value, label = score.flatten().double(), positive.flatten().bool()
    if value.shape != label.shape or not bool(torch.isfinite(value).all()):
        raise ArgumentError("score and positive must have one shape, and score be finite")
    yes = int(label.sum())
    no = len(label) - yes
    if not yes or not no:
        raise ArgumentError(f"auroc needs both classes, got {yes} positive and {no} negative samples")
    _, inverse, counts = torch.unique(value, return_inverse=True, return_counts=True)
    upper = counts.cumsum(0).double()
    rank = upper - (counts.double() - 1) / 2
    return float((rank[inverse][label].sum() - yes * (yes + 1) / 2) / (yes * no))
