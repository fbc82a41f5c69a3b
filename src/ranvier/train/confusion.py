"""Which class was taken for which: pixel accuracy and mean intersection over union."""

from __future__ import annotations

import torch
from torch import Tensor

from ranvier.errors import ShapeError


def confusion(predicted: Tensor, target: Tensor, num_classes: int) -> Tensor:
    """Counts int64 `[K, K]`, a row a true class and a column a predicted one; targets below 0 do not count."""
    if predicted.shape != target.shape:
        raise ShapeError(
            f"predicted and target must have one shape, got {tuple(predicted.shape)}, {tuple(target.shape)}"
        )
    counted = target >= 0
    rows, columns = target[counted].long(), predicted[counted].long()
    return torch.bincount(rows * num_classes + columns, minlength=num_classes**2).view(num_classes, num_classes)


def segmentation_scores(counts: Tensor) -> dict[str, float]:
    """`miou`, `mean_accuracy` and `pixel_accuracy` of a confusion matrix.

    The means are over the classes that occur, as a target or (for the IoU) as a prediction.
    """
    table = counts.double()
    right, true, taken = table.diag(), table.sum(1), table.sum(0)
    union = true + taken - right
    iou, accuracy = (right / union)[union > 0], (right / true)[true > 0]
    return {
        "miou": float(iou.mean()) if len(iou) else 0.0,
        "mean_accuracy": float(accuracy.mean()) if len(accuracy) else 0.0,
        "pixel_accuracy": float(right.sum() / true.sum().clamp_min(1)),
    }
