"""Training a net that finds objects, and measuring it by average precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack, cast

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from ranvier.data.targets import UNCOUNTED, objects
from ranvier.errors import ConfigError
from ranvier.models import Detection, DetectionNet
from ranvier.train.average_precision import Truth, cloud_scores, image_scores
from ranvier.train.evaluation import Evaluation
from ranvier.train.plain_objective import PlainObjective
from ranvier.train.recipe import TrainSection
from ranvier.train.survey import How, Survey


class ObjectDetection(PlainObjective):
    """The net's own loss, on the objects that count."""

    classifies = False

    def __init__(self, train: TrainSection) -> None:
        if train.loss != "cross_entropy" or train.label_smoothing:
            raise ConfigError("train.loss: a detector has a loss of its own; leave loss and label_smoothing out")
        if train.distill.teacher is not None:
            raise ConfigError("train.distill: distillation is for classifiers")
        if train.compile:
            raise ConfigError("train.compile: the targets of a detector change their shapes, it cannot be compiled")

    def loss(self, forward: Callable[..., Tensor], x: Tensor, y: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        boxes, labels, _ = objects(y)
        return forward(x, boxes, labels), torch.zeros((), device=x.device)

    def measure(self, net: nn.Module, dataset: Dataset[Any], batch_size: int, **shared: Any) -> Evaluation:
        return measure_detection(net, dataset, batch_size, **shared)


@torch.no_grad()
def measure_detection(net: nn.Module, dataset: Dataset[Any], batch_size: int, **how: Unpack[How]) -> Evaluation:
    """Average precision on `dataset` (`image_scores` or `cloud_scores`) and the mean loss of a batch.

    Precision is not a sum over samples: each of several processes goes through the whole set.
    """
    survey = Survey(net, **how)
    detector = cast("DetectionNet", net)
    found: list[Detection] = []
    truth: list[Truth] = []
    levels: list[Tensor] = []
    losses: list[float] = []
    with survey.batches(dataset, batch_size, whole=True) as batches:
        for number, (x, y) in enumerate(batches):
            shown = survey.shown(x)
            with survey.watching(number):
                found += [_on_cpu(one) for one in detector.detect(shown)]
                boxes, labels, _ = objects(y.to(survey.device))
                losses.append(float(torch.stack(list(detector.loss(shown, boxes, labels).values())).sum()) * len(y))
            boxes, labels, own = objects(y, counted=False)
            limit = UNCOUNTED[y.shape[-1] - 2]
            truth += [Truth(b, k, level >= limit) for b, k, level in zip(boxes, labels, own, strict=True)]
            levels += own
    flat = truth[0].boxes.shape[1] == 4
    classes = detector.num_classes
    scores = image_scores(found, truth, classes) if flat else cloud_scores(found, truth, levels, classes)
    return Evaluation(len(truth), None, sum(losses) / len(truth), (), survey.rate(), survey.seconds(), scores)


def _on_cpu(one: Detection) -> Detection:
    return Detection(one.boxes.float().cpu(), one.scores.float().cpu(), one.labels.cpu())
