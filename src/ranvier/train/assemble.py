"""From a recipe to the things it names: data, model, augmentation."""

from __future__ import annotations

import hashlib
import inspect
import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import ranvier.data as data_room
from ranvier.data import Augment, DataBundle, Samples, split_validation, subset
from ranvier.data.samples import Joined
from ranvier.data.split import first_part, folds
from ranvier.errors import ArgumentError, ConfigError
from ranvier.models import MODELS, SpikingClassifier, create_model, model_card
from ranvier.train.recipe import AugmentSection, Recipe

VALIDATION_SEED = 0
"""Runs with different seeds set the same samples aside, so that their figures can be compared."""


@dataclass(frozen=True)
class Splits:
    """What a run trains on, selects on (None: nothing set aside) and, at its very end, is tested on."""

    bundle: DataBundle
    train: Samples
    validation: Samples | None

    @property
    def test(self) -> Samples:
        """The test part; nothing but the final evaluation may ask for it."""
        return self.bundle.test


def load_splits(recipe: Recipe) -> Splits:
    """Load the data set of `recipe` and set the validation part aside."""
    section = recipe.data
    if section.fold is not None:
        return _fold(recipe)
    for option in ("train_size", "test_size"):
        if option in section.options:
            raise ConfigError(f"data.options.{option}: use data.limit_{option.removesuffix('_size')}")
    bundle = data_room.load(
        section.name, section.root, train_size=section.limit_train, test_size=section.limit_test, **section.options
    )
    if not section.validation:
        return Splits(bundle, bundle.train, None)
    if bundle.validation is not None:  # the data set has its own
        return Splits(bundle, bundle.train, bundle.validation)
    try:
        train, validation = split_validation(bundle.train, section.validation, seed=VALIDATION_SEED)
    except ArgumentError as error:
        raise ConfigError(f"data.validation: {error}") from error
    return Splits(bundle, train, validation)


def _fold(recipe: Recipe) -> Splits:
    """One round of cross-validation over all samples of the data set."""
    section = recipe.data
    assert section.fold is not None
    part, parts = section.fold
    if section.limit_test is not None:
        raise ConfigError("data.limit_test: with data.fold the test part is a fold; it has no limit")
    bundle = data_room.load(section.name, section.root, **section.options)
    try:
        everything = Joined((bundle.train, bundle.test))
        held = folds(everything.labels.numpy(), parts, VALIDATION_SEED)[part]
        train, test = subset(everything, np.setdiff1d(np.arange(len(everything)), held)), subset(everything, held)
        if section.limit_train is not None:
            train = first_part(train, section.limit_train, "limit_train")
        validation = None
        if section.validation:
            train, validation = split_validation(train, section.validation, seed=VALIDATION_SEED)
    except ArgumentError as error:
        raise ConfigError(f"data.fold: {error}") from error
    identity = json.dumps([bundle.fingerprint, "fold", part, parts, section.limit_train])
    fingerprint = hashlib.sha256(identity.encode()).hexdigest()
    bundle = replace(bundle, train=train, test=test, validation=None, fingerprint=fingerprint)
    return Splits(bundle, train, validation)


def build_model(recipe: Recipe, bundle: DataBundle) -> SpikingClassifier:
    """The model of `recipe`, with shapes and normalisation from the data where the recipe does not give them."""
    card = model_card(recipe.model.name.partition(".")[0])
    dense = ("segmentation", "detection")
    if card.task != bundle.task and (card.task in dense or bundle.task in dense):
        able = ", ".join(n for n, e in MODELS.items() if e.card.task == bundle.task)
        raise ConfigError(
            f"model.name: {recipe.model.name!r} is for {card.task}, but the data set {bundle.name!r} is for "
            f"{bundle.task}" + (f"; models for that: {able}" if bundle.task in dense else "")
        )
    return create_model(recipe.model.name, **model_arguments(recipe, bundle))  # pyright: ignore[reportReturnType]


def model_arguments(recipe: Recipe, bundle: DataBundle) -> dict[str, Any]:
    """The arguments that `build_model` passes to `ranvier.create_model`."""
    if bundle.kind == "text":
        return {"num_classes": bundle.num_classes, **recipe.model.args}
    if bundle.kind == "points":
        points, channels = bundle.input_shape
        shape = {"num_classes": bundle.num_classes, "in_channels": channels, "num_points": points}
        if "num_points" not in inspect.signature(MODELS[recipe.model.name.partition(".")[0]].builder).parameters:
            del shape["num_points"]
        return {**shape, **recipe.model.args}
    if bundle.kind == "voxels":
        return {"num_classes": bundle.num_classes, "in_channels": bundle.input_shape[0], **recipe.model.args}
    if bundle.kind == "sequence":
        return {"num_classes": bundle.num_classes, "in_channels": bundle.input_shape[-1], **recipe.model.args}
    *steps, channels, height, width = bundle.input_shape
    arguments: dict[str, Any] = {
        "num_classes": bundle.num_classes,
        "in_channels": channels,
        "img_size": height if height == width else (height, width),
    }
    if steps:
        arguments["T"] = steps[0]
    elif (
        recipe.data.normalize
        and _takes_encoder(recipe.model.name)
        and bundle.mean is not None
        and bundle.std is not None
    ):
        arguments["encoder"] = {"type": "direct", "mean": list(bundle.mean), "std": list(bundle.std)}
    return {**arguments, **recipe.model.args}


def _takes_encoder(model: str) -> bool:
    """A denoiser, say, has no encoder."""
    parameters = inspect.signature(MODELS[model.partition(".")[0]].builder).parameters
    return "encoder" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def build_augment(section: AugmentSection, epoch: int) -> Augment:
    """What is done to the batches of `epoch` (from 0)."""
    values = section.model_dump(exclude={"mix_off_epoch"})
    if section.mix_off_epoch is not None and epoch >= section.mix_off_epoch:
        values |= {"mixup": 0.0, "cutmix": 0.0}
    return Augment(**values)
