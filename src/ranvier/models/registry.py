"""Models by name: `register_model`, `create_model`, `list_models`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from ranvier.errors import ArgumentError
from ranvier.layers.quant import WeightSize, prepare_qat, weight_size
from ranvier.models.card import ModelCard
from ranvier.models.outline import outline
from ranvier.models.pretrained import list_pretrained, put_weights, weight_card
from ranvier.registry import Registry, check_keywords

# Other spellings of the common arguments, as peers and original repositories write them.
ALIASES = {
    "image_size": "img_size",
    "in_chans": "in_channels",
    "embed_dims": "embed_dim",
    "depths": "depth",
    "heads": "num_heads",
    "mlp_ratios": "mlp_ratio",
    "pooling_stat": "pools",
    "planes": "widths",
    "FL_blocks": "num_blocks",
    "haar_vth": "haar_threshold",
    "steps": "T",
    "time_steps": "T",
    "num_classes": "vocab_size",
}


@dataclass(frozen=True)
class Entry:
    """A registered model: its card, the class or function that builds it, and the arguments that make this size."""

    card: ModelCard
    builder: Callable[..., nn.Module]
    preset: dict[str, Any]


MODELS: Registry[Entry] = Registry("model")


def register_model(card: ModelCard, builder: Callable[..., nn.Module], **preset: Any) -> None:
    """Register `builder` under the card's name with the `preset` arguments of this size.

    Raises `ArgumentError` when the name is taken or the builder does not take a preset argument.
    """
    check_keywords(builder, preset, f"model {card.name!r}")
    MODELS.register(card.name)(Entry(card, builder, preset))


def create_model(name: str, *, pretrained: bool | str = False, **overrides: Any) -> nn.Module:
    """Build a registered model.

    Args:
        name: a name from `list_models()`, or one with a tag, "spiking_conv_net.mnist": the size of those trained
            weights.
        pretrained: load trained weights that come with the package (`list_pretrained`), the model's default ones or
            those of a tag; their arguments hold where `overrides` gives no other, and the model is in eval mode.
        **overrides: arguments of the model, on top of its published size; common ones are `num_classes`,
            `in_channels`, `img_size`, `T`, `neuron` (name or `dict(type="lif", tau=2.0)`) and `encoder`; `bits`
            quantises the weights of any model (`ranvier.layers.quant.prepare_qat`). Common other spellings
            (`image_size`, `embed_dims`, `depths`, ...) are accepted.

    Returns the model; `model.card` is its card and `model.config` the arguments that rebuild it. Raises
    `UnknownNameError` for an unknown name and `ArgumentError` for an argument that the model does not take.
    """
    card = None
    if pretrained or ("." in name and name not in MODELS):
        card = weight_card(_known(name), None if isinstance(pretrained, bool) else pretrained)
        name, overrides = card.model, {**card.arguments, **_renamed(card.model, overrides)}
    model = _build(name, overrides)
    if card is not None and pretrained:
        put_weights(model, card)
        model.eval()
    return model


def _known(name: str) -> str:
    """`name`, perhaps with a tag, whose model is registered; `UnknownNameError` otherwise."""
    MODELS[name.partition(".")[0]]
    return name


def _build(name: str, overrides: dict[str, Any]) -> nn.Module:
    entry = MODELS[name]
    taken = inspect.signature(entry.builder).parameters
    renamed = _renamed(name, overrides)
    own = {key: value for key, value in renamed.items() if key != "bits" or key in taken}
    check_keywords(entry.builder, own, f"model {name!r}")
    model = entry.builder(**{**entry.preset, **own})
    if "bits" not in taken and renamed.get("bits") is not None:
        prepare_qat(model, renamed["bits"])
    model.card = entry.card  # pyright: ignore[reportArgumentType]
    model.config = {"name": name, "args": renamed}  # pyright: ignore[reportArgumentType]
    return model


def _renamed(name: str, overrides: dict[str, Any]) -> dict[str, Any]:
    """`overrides` under the names that the model gives its arguments."""
    entry = MODELS[name]
    taken = inspect.signature(entry.builder).parameters
    renamed: dict[str, Any] = {}
    for key, value in overrides.items():
        other = ALIASES.get(key, key)
        target = other if key not in taken and other in taken else key
        if target in renamed:
            raise ArgumentError(f"model {name!r} got {target!r} twice, once as {key!r}")
        renamed[target] = value
    return renamed


def list_models(pattern: str = "*", family: str | None = None, pretrained: bool = False) -> list[str]:
    """Names of registered models that match a shell-style `pattern`, sorted; of one family, with trained weights."""
    trained = {card.model for card in list_pretrained()} if pretrained else None
    return sorted(
        name
        for name, entry in MODELS.items()
        if fnmatchcase(name, pattern) and family in (None, entry.card.family) and (trained is None or name in trained)
    )


def model_card(name: str) -> ModelCard:
    """The card of a registered model."""
    return MODELS[name].card


def trainable_params(name: str) -> int:
    """Everything that trains in the model at its published size, counted without allocating the weights.

    The steps of weight quantisers are not in it, as in publications on quantised nets; `weight_size` counts them.
    """
    return _size(name).params


def _size(name: str) -> WeightSize:
    with outline():
        return weight_size(create_model(name))


def describe_models(pattern: str = "*", counts: bool = True) -> list[dict[str, Any]]:
    """The cards that match `pattern`, ready for JSON, with counts of the instantiated model added (`counts`).

    `trainable`: all that trains but quantiser steps, `quantizer_steps`: those, `weight_bytes`: size in storage with
    quantised weights packed, `pretrained`: the trained weights that come with the package.
    """
    described: list[dict[str, Any]] = []
    for name in list_models(pattern):
        counted = {}
        if counts:
            size = _size(name)
            counted = {"trainable": size.params, "quantizer_steps": size.steps, "weight_bytes": size.bytes}
        weights = [
            {key: getattr(card, key) for key in ("name", "default", "metric", "value", "standard_error", "n", "bytes")}
            | {"data": card.data["name"]}
            for card in list_pretrained(name)
        ]
        described.append({**model_card(name).to_dict(), **counted, "pretrained": weights})
    return described
