"""What a net is trained for: the loss of a batch, and how good the net is on a data set."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from ranvier.data import Samples
from ranvier.errors import ConfigError
from ranvier.models import Denoiser, DetectionNet, LanguageModel
from ranvier.train.evaluation import Evaluation, measure
from ranvier.train.loss import hits, recipe_loss
from ranvier.train.next_token import NextToken
from ranvier.train.plain_objective import PlainObjective
from ranvier.train.recipe import Recipe, TrainSection
from ranvier.train.survey import How, Survey

if TYPE_CHECKING:
    from ranvier.train.assemble import Splits


class Objective(Protocol):
    """Loss and measurement of one kind of training. `classifies` says whether accuracy means anything."""

    classifies: bool

    def loss(self, forward: Callable[..., Tensor], x: Tensor, y: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of a batch, and how many of its samples were right (0 where nothing is classified).

        `forward` is the net (perhaps compiled or distributed), `y` the labels, `target` the labels or, after mixing,
        probabilities.
        """
        ...

    def measure(self, net: nn.Module, dataset: Dataset[Any], batch_size: int, **shared: Any) -> Evaluation:
        """Figures of `net` on `dataset`; further arguments as in `ranvier.train.evaluation.measure`."""
        ...

    def network(self, net: nn.Module) -> nn.Module: ...

    def samples(self, train: Samples) -> Samples: ...

    def begin_update(self, step: int, steps: int) -> None: ...

    def notes(self) -> dict[str, Any]: ...


def objective_for(recipe: Recipe, net: nn.Module, splits: Splits) -> Objective:
    """The objective that a recipe names; `ConfigError` where the model or the data cannot be trained for it."""
    train = recipe.train
    denoises = isinstance(net, Denoiser)
    if (train.loss == "denoising") != denoises:
        wanted = "train.loss=denoising" if denoises else "cross_entropy or tet"
        raise ConfigError(f"train.loss: {train.loss!r} does not fit this model; use {wanted}")
    if isinstance(net, Denoiser):
        return Denoising(net)
    if train.transfer.data is not None:
        from ranvier.train.transfer.objective import Transfer

        return Transfer(recipe, net, splits)
    if isinstance(net, LanguageModel):
        if train.loss != "cross_entropy":
            raise ConfigError(f"train.loss: {train.loss!r} does not fit a language model; use cross_entropy")
        return NextToken(train)
    if getattr(net, "segments", False):
        from ranvier.train.segmentation import Segmentation

        return Segmentation(train)
    if isinstance(net, DetectionNet):
        from ranvier.train.detection import ObjectDetection

        return ObjectDetection(train)
    if train.distill.teacher is None:
        return Classification(train)
    from ranvier.train.distill import Distillation

    if train.compile:
        raise ConfigError("train.compile: a compiled net cannot be watched for a teacher (train.distill)")
    return Distillation(Classification(train), train.distill, net)


class Classification(PlainObjective):
    """Cross-entropy or TET on per-step logits."""

    classifies = True

    def __init__(self, train: TrainSection) -> None:
        self.train = train

    def loss(self, forward: Callable[..., Tensor], x: Tensor, y: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        logits = forward(x)
        return recipe_loss(self.train, logits, target), hits(logits.detach(), target, self.train.readout)

    def measure(self, net: nn.Module, dataset: Dataset[Any], batch_size: int, **shared: Any) -> Evaluation:
        return measure(net, dataset, batch_size, readout=self.train.readout, **shared)


class Denoising(PlainObjective):
    """Mean square error of the predicted noise at random times (Ho, Jain and Abbeel, 2020, equation 14).

    Images of the data set, in 0 .. 1, become −1 .. 1. The class of a share of the samples is hidden in training.
    """

    classifies = False

    def __init__(self, net: Denoiser) -> None:
        self.net = net

    def loss(self, forward: Callable[..., Tensor], x: Tensor, y: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.net.label_dropout
        return _denoising_loss(self.net, forward, x, y, hidden).mean(), torch.zeros((), device=x.device)

    @torch.no_grad()
    def measure(self, net: nn.Module, dataset: Dataset[Any], batch_size: int, **shared: Any) -> Evaluation:
        return measure_denoising(net, dataset, batch_size, **shared)


def _denoising_loss(net: Denoiser, forward: Callable[..., Tensor], x: Tensor, y: Tensor, hidden: float) -> Tensor:
    """Squared error of each sample, `[B]`."""
    image = 2 * x - 1
    label = torch.randint(net.train_steps, (len(x),), device=x.device)
    noisy, wanted = net.noised(image, label, torch.randn_like(image))
    classes = None
    if net.num_classes:
        classes = torch.where(torch.rand(len(y), device=y.device) < hidden, net.num_classes, y)
    found = forward(noisy, label.to(noisy.dtype), classes)
    return F.mse_loss(found.float(), wanted.float(), reduction="none").flatten(1).mean(1)


@torch.no_grad()
def measure_denoising(net: nn.Module, dataset: Dataset[Any], batch_size: int, **how: Unpack[How]) -> Evaluation:
    """The denoising error of `net`, at times and with noise that depend on `seed` only; `accuracy` is None."""
    assert isinstance(net, Denoiser)
    survey = Survey(net, **how)
    survey.seed += survey.rank  # each process draws times and noise for its own share
    sums = torch.zeros(2, dtype=torch.float64)
    with survey.batches(dataset, batch_size) as batches:
        for number, (x, y) in enumerate(batches):
            image = survey.shown(x)
            with survey.watching(number):
                errors = _denoising_loss(net, net, image, y.to(survey.device), hidden=0.0)
            sums += torch.tensor([float(errors.sum()), len(y)], dtype=torch.float64)
    total, n = survey.total(sums).tolist()
    return Evaluation(int(n), None, total / n, (), survey.rate(), survey.seconds())
