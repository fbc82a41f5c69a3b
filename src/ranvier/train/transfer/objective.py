"""The objective of a recipe with `train.transfer`: one net learns from recordings and from images of their classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.utils.data import Dataset

import ranvier.data as data_room
from ranvier.data import DATASETS, DataBundle, Samples, subset
from ranvier.data.split import stratified
from ranvier.errors import ArgumentError, ConfigError, DataError
from ranvier.train.assemble import Splits
from ranvier.train.evaluation import Evaluation, measure
from ranvier.train.loss import hits
from ranvier.train.plain_objective import PlainObjective
from ranvier.train.recipe import Recipe, TransferSection
from ranvier.train.transfer.alignment import DomainAlignmentLoss
from ranvier.train.transfer.coefficients import TemporalCoefficients
from ranvier.train.transfer.image import StaticToEvent
from ranvier.train.transfer.loss import KnowledgeTransferLoss, TETLoss, TransferTerms
from ranvier.train.transfer.network import DomainOutputs, TwoDomainNet
from ranvier.train.transfer.pairs import NumberedSamples, PairedImages, keys_of
from ranvier.train.transfer.semantic import SemanticLoss
from ranvier.train.transfer.sliding import SlidingReplacement
from ranvier.train.transfer.tap import Tap


class Transfer(PlainObjective):
    """`KnowledgeTransferLoss` on batches of recordings and their static partners; measured on recordings alone."""

    classifies = True

    def __init__(self, recipe: Recipe, net: nn.Module, splits: Splits) -> None:
        self.recipe, self.section = recipe, recipe.train.transfer
        _check(recipe, splits.bundle)
        events = splits.bundle
        images = _images(recipe)
        try:
            self.pairs = PairedImages(
                splits.train, _share(images.train, self.section.share), events.classes, images.classes,
                self.section.pairing, keys_of(splits.validation, splits.test), recipe.seed,
            )  # fmt: skip
        except (ArgumentError, DataError) as error:
            raise type(error)(f"train.transfer: {error}") from error
        self.labels = splits.train.labels
        T, channels, height, width = events.input_shape
        self.frames = StaticToEvent(T, channels, (height, width), self.section.channel)
        self.sliding: SlidingReplacement | None = None
        self.step = 0
        self.terms: TransferTerms | None = None
        self.coefficients = _coefficients(self.section, T)
        self.criterion = _criterion(recipe, self.coefficients)

    def network(self, net: nn.Module) -> nn.Module:
        section = self.section
        tap = None if section.tap is None else Tap(section.tap, section.what)
        try:
            two = TwoDomainNet(net, tap, section.heads, section.norms)
        except ArgumentError as error:
            raise ConfigError(f"train.transfer: {error}") from error
        if self.coefficients is not None:
            two.coefficients = self.coefficients
        return two.to(next(net.parameters()))

    def samples(self, train: Samples) -> Samples:
        return NumberedSamples(train)

    def begin_update(self, step: int, steps: int) -> None:
        if self.sliding is None or self.sliding.total_steps != steps:
            self.sliding = SlidingReplacement(steps, self.section.power, self.section.sliding)
        self.step = step
        self.criterion.keeps_apart = step < self.section.semantic_until * steps

    def loss(self, forward: Callable[..., Any], x: Tensor, y: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        assert self.sliding is not None
        numbers = y.cpu()
        labels = self.labels[numbers].to(y.device)
        static = self.frames(self.pairs.batch(numbers).to(x.device))
        found: DomainOutputs = forward(self.sliding.mix(static, x, self.step), x)
        self.terms = terms = self.criterion(*found, labels)
        return terms.total, hits(found.event_logits.detach(), labels, self.recipe.train.readout)

    def measure(self, net: nn.Module, dataset: Dataset[Any], batch_size: int, **shared: Any) -> Evaluation:
        return measure(net, dataset, batch_size, readout=self.recipe.train.readout, **shared)

    def notes(self) -> dict[str, Any]:
        """Of the last batch: the parts of the loss; how likely a replacement was, and the temporal coefficients."""
        assert self.sliding is not None
        found: dict[str, Any] = {"replacement": self.sliding.probability(self.step)}
        if self.terms is not None:
            parts = self.terms
            found |= {"static_loss": parts.static, "event_loss": parts.event, "alignment_loss": parts.alignment}
            if self.section.semantic:
                found["semantic_loss"] = parts.semantic
        if self.coefficients is not None:
            found["temporal"] = self.coefficients()
        return {key: v.detach().tolist() if isinstance(v, Tensor) else v for key, v in found.items()}


def _check(recipe: Recipe, events: DataBundle) -> None:
    train, augment = recipe.train, recipe.data.augment
    if events.kind != "event":
        raise ConfigError(f"train.transfer: data.name must be a set of events, but {events.name!r} is {events.kind}")
    if train.distill.teacher is not None:
        raise ConfigError("train.transfer: not together with train.distill")
    if train.compile or train.recompute:
        which = "compile" if train.compile else "recompute"
        raise ConfigError(f"train.{which}: a net whose features are aligned (train.transfer) cannot be changed so")
    if augment.mixup or augment.cutmix:
        raise ConfigError("data.augment: mixed recordings have no static partner (train.transfer)")
    if train.loss not in ("tet", "cross_entropy"):
        raise ConfigError(f"train.loss: {train.loss!r} does not fit train.transfer; use tet or cross_entropy")
    least = 4 if train.transfer.debiased else 2
    if (train.transfer.coefficient or train.transfer.semantic) and recipe.data.batch_size // train.devices < least:
        raise ConfigError(
            f"data.batch_size: the alignment of train.transfer is not defined for a batch of "
            f"{recipe.data.batch_size // train.devices}; it needs at least {least} samples a process"
        )


def _images(recipe: Recipe) -> DataBundle:
    section = recipe.train.transfer
    assert section.data is not None
    kind = DATASETS[section.data].kind
    if kind != "static":
        raise ConfigError(f"train.transfer.data: must be a set of images, but {section.data!r} is {kind}")
    return data_room.load(section.data, section.root or recipe.data.root, **section.options)


def _share(images: Samples, share: float) -> Samples:
    if share == 1:
        return images
    return subset(images, stratified(images.labels.numpy(), max(1, round(share * len(images))), 0))


def _coefficients(section: TransferSection, T: int) -> TemporalCoefficients | None:
    if section.temporal == "none":
        return None
    if section.temporal == "fixed":
        return TemporalCoefficients.fixed(T, section.temporal_value)
    try:
        return TemporalCoefficients(T, section.temporal_init, section.temporal_bounds, section.temporal_entropy)
    except ArgumentError as error:
        raise ConfigError(f"train.transfer.temporal_{error}") from error


def _criterion(recipe: Recipe, coefficients: TemporalCoefficients | None) -> KnowledgeTransferLoss:
    train, section = recipe.train, recipe.train.transfer
    alignment = DomainAlignmentLoss(section.kernel, section.debiased, distance=section.distance)
    apart: dict[str, Any] = {}
    if section.semantic:
        semantic = SemanticLoss(section.semantic_margin, section.kernel, section.debiased)
        apart = {"semantic": semantic, "semantic_coefficient": section.semantic}
    if train.loss == "tet":
        classifier = TETLoss(train.tet_lambda, train.tet_target, train.label_smoothing)
        return KnowledgeTransferLoss(alignment, coefficients, section.coefficient, classifier, **apart)
    if coefficients is not None:
        raise ConfigError(
            "train.transfer.temporal: coefficients weigh the loss of every step; use train.loss=tet, or temporal=none"
        )
    return KnowledgeTransferLoss(
        alignment, None, section.coefficient, "cross_entropy", label_smoothing=train.label_smoothing, **apart
    )  # fmt: skip
