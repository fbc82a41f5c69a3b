"""Trained weights that come with the package: safetensors, and a card that says where they are from."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ranvier.errors import ArgumentError, CheckpointError, UnknownNameError, nearest

FOLDER = Path(__file__).parent / "weights"
FORMAT = 1
LARGEST = 2_000_000  # bytes of one file: the wheel stays small


@dataclass(frozen=True)
class WeightCard:
    """What is known about a set of trained weights; the JSON file beside them.

    Attributes:
        model, tag: the registered model and what tells these weights from its others; `name` joins them with a dot.
        default: the ones that `pretrained=True` takes when no tag is given.
        arguments: of `ranvier.create_model`, that the weights fit.
        sha256, bytes, params: of the file of weights; trainable parameters.
        data: name, version, fingerprint, options and classes of the data set, and the samples of each part.
        metric, value, standard_error, n: what was measured on the test part with these weights: a share of `n`
            samples and its binomial standard error.
        seed, seeds: of these weights, and every run by its seed with its validation and test figures. The weights are
            those of the seed that is best on the validation part.
        mean, deviation: of the test figure over the seeds; the deviation is None for one seed.
        recipe, recipe_hash: resolved, as `ranvier.train.parse_recipe` reads it.
        date, command, machine: when, how and where they were trained; versions in `machine`.
        train_s: seconds of training of these weights.
        licence: of the weights.
    """

    model: str
    tag: str
    default: bool
    arguments: dict[str, Any]
    sha256: str
    bytes: int
    params: int
    data: dict[str, Any]
    metric: str
    value: float
    standard_error: float
    n: int
    seed: int
    seeds: tuple[dict[str, Any], ...]
    mean: float
    deviation: float | None
    recipe: dict[str, Any]
    recipe_hash: str
    date: str
    command: str
    machine: dict[str, Any]
    train_s: float
    licence: str = "Apache-2.0"

    @property
    def name(self) -> str:
        """`model.tag`, which `create_model` takes."""
        return f"{self.model}.{self.tag}"

    @property
    def path(self) -> Path:
        """The file of weights."""
        return FOLDER / f"{self.name}.safetensors"

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"format": FORMAT, **asdict(self), "seeds": list(self.seeds)}

    def weights(self) -> dict[str, Tensor]:
        """The tensors; `CheckpointError` when the file is missing or not the one that the card describes."""
        from safetensors.torch import load

        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise CheckpointError(f"{self.path}: cannot be read ({error.strerror})") from error
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise CheckpointError(f"{self.path}: is damaged (not the SHA-256 of its card)")
        return load(content)


@cache
def packed_cards() -> dict[str, WeightCard]:
    """Every card in the package by its name; read once (`packed_cards.cache_clear()` reads them anew)."""
    found = (read_card(path) for path in sorted(FOLDER.glob("*.json")))
    return {card.name: card for card in found}


def read_card(path: Path) -> WeightCard:
    """The card in a JSON file; `CheckpointError` when it is damaged or of another format."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document.pop("format") != FORMAT:
            raise CheckpointError(f"{path}: is not a card of format {FORMAT}")
        fields: dict[str, Any] = {**document, "seeds": tuple(document["seeds"])}
        return WeightCard(**fields)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path}: is damaged ({error})") from error


def list_pretrained(model: str | None = None) -> list[WeightCard]:
    """The cards of all trained weights that come with the package, or of those of one model; the default ones first."""
    found = [card for card in packed_cards().values() if model in (None, card.model)]
    return sorted(found, key=lambda card: (card.model, not card.default, card.tag))


def weight_card(name: str, tag: str | None = None) -> WeightCard:
    """The card of the weights `name` with `tag` (or "model.tag"), or of the model's default ones.

    Raises `UnknownNameError` naming what exists.
    """
    model, _, dotted = name.partition(".")
    if dotted and tag not in (None, dotted):
        raise ArgumentError(f"pretrained: {tag!r} contradicts the name {name!r}")
    wanted = tag or dotted or None
    own = list_pretrained(model)
    if not own:
        known = ", ".join(card.name for card in list_pretrained())
        raise UnknownNameError(f"model {model!r} comes without trained weights; there are: {known or 'none'}")
    if wanted is None:
        return own[0]
    for card in own:
        if card.tag == wanted:
            return card
    tags = [card.tag for card in own]
    raise UnknownNameError(f"model {model!r} has no trained weights {wanted!r}{nearest(wanted, tags)}; it has: "
                           f"{', '.join(tags)}")  # fmt: skip


def put_weights(net: nn.Module, card: WeightCard) -> None:
    """Load the weights of `card` into `net`; `ArgumentError` where an argument made it a net that they do not fit."""
    tensors, own = card.weights(), net.state_dict()
    wrong = sorted(
        key for key in {*tensors, *own} if key not in tensors or key not in own or tensors[key].shape != own[key].shape
    )
    if wrong:
        key = wrong[0]
        theirs = tuple(tensors[key].shape) if key in tensors else "missing"
        mine = tuple(own[key].shape) if key in own else "missing"
        raise ArgumentError(
            f"pretrained: the weights {card.name!r} do not fit ({len(wrong)} tensors; {key!r} is {theirs} there, "
            f"{mine} here); they are for {card.arguments}"
        )
    net.load_state_dict(tensors)
