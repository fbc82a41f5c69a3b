"""Training a class for every pixel or point, and measuring it by mean intersection over union."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from ranvier.errors import ConfigError, ShapeError
from ranvier.train.confusion import confusion, segmentation_scores
from ranvier.train.evaluation import Evaluation
from ranvier.train.plain_objective import PlainObjective
from ranvier.train.readout import Readout, read_out
from ranvier.train.recipe import TrainSection
from ranvier.train.survey import How, Survey


class Segmentation(PlainObjective):
    """Cross-entropy of every pixel or point (`IGNORED` ones left out) after the readout over time; or tet."""

    classifies = False

    def __init__(self, train: TrainSection) -> None:
        if train.loss not in ("cross_entropy", "tet"):
            raise ConfigError(
                f"train.loss: {train.loss!r} does not fit a model for segmentation; use cross_entropy or tet"
            )
        if train.distill.teacher is not None:
            raise ConfigError("train.distill: distillation is for classifiers")
        self.train = train

    def loss(self, forward: Callable[..., Tensor], x: Tensor, y: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        logits = forward(x)
        none = torch.zeros((), device=x.device)
        smoothing = self.train.label_smoothing
        mean = _pixel_loss(read_out(logits, self.train.readout), y, smoothing)
        if self.train.loss != "tet":
            return mean, none
        steps = torch.stack([_pixel_loss(step, y, smoothing) for step in logits]).mean()
        share = self.train.tet_lambda
        return (1 - share) * steps + share * F.mse_loss(logits, torch.full_like(logits, self.train.tet_target)), none

    def measure(self, net: nn.Module, dataset: Dataset[Any], batch_size: int, **shared: Any) -> Evaluation:
        return measure_segmentation(net, dataset, batch_size, readout=self.train.readout, **shared)


@torch.no_grad()
def measure_segmentation(
    net: nn.Module, dataset: Dataset[Any], batch_size: int, *, readout: Readout = "mean", **how: Unpack[How]
) -> Evaluation:
    """mIoU and accuracies over all pixels or points of `dataset`, and the mean loss of one; see `measure`."""
    survey = Survey(net, **how)
    classes = int(net.num_classes)  # pyright: ignore[reportArgumentType]
    counts = torch.zeros(classes, classes, dtype=torch.float64)
    sums = torch.zeros(3, dtype=torch.float64)  # loss of all places, places, samples
    with survey.batches(dataset, batch_size) as batches:
        for number, (x, y) in enumerate(batches):
            with survey.watching(number):
                logits = net(survey.shown(x))
            scores = fitted(read_out(survey.exact(logits), readout), y)
            target = y.to(survey.device)
            loss = F.cross_entropy(scores, target, ignore_index=-1, reduction="sum")
            counts += confusion(scores.argmax(1), target, classes).cpu()
            sums += torch.tensor([float(loss), float((y >= 0).sum()), len(y)], dtype=torch.float64)
    scores = segmentation_scores(survey.total(counts))
    total, places, samples = survey.total(sums).tolist()
    return Evaluation(int(samples), None, total / max(1.0, places), (), survey.rate(), survey.seconds(), scores)


def fitted(scores: Tensor, y: Tensor) -> Tensor:
    """Scores `[B, ..., K]` as `[B, K, ...]`, brought to the height and width of the targets `[B, H, W]` (bilinear)."""
    moved = scores.movedim(-1, 1)
    if moved.shape[2:] == y.shape[1:]:
        return moved
    if moved.dim() != 4 or y.dim() != 3:
        raise ShapeError(f"logits {tuple(scores.shape)} do not fit targets {tuple(y.shape)}")
    return F.interpolate(moved, tuple(y.shape[1:]), mode="bilinear", align_corners=False)


def _pixel_loss(scores: Tensor, y: Tensor, smoothing: float) -> Tensor:
    total = F.cross_entropy(fitted(scores, y), y, ignore_index=-1, label_smoothing=smoothing, reduction="sum")
    return total / (y >= 0).sum().clamp_min(1)
