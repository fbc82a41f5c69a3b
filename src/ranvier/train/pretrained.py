"""Trained weights of the package: measured again on their data, and packed from finished runs."""

from __future__ import annotations

import hashlib
import math
import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import torch

from ranvier.errors import ArgumentError
from ranvier.files import write_bytes
from ranvier.models import WeightCard, create_model, weight_card
from ranvier.models.pretrained import LARGEST
from ranvier.train.assemble import load_splits
from ranvier.train.checkpoint import load_weights, to_bytes
from ranvier.train.environment import environment
from ranvier.train.evaluation import Evaluation, evaluate
from ranvier.train.files import explained, write_json
from ranvier.train.recipe import Recipe, parse_recipe
from ranvier.train.run import WEIGHTS, RunFolder, RunResult


@dataclass(frozen=True)
class WeightCheck:
    """Trained weights measured again.

    Attributes:
        card: what was stored with them.
        evaluation: the figures now.
        same_data: the data has the fingerprint of the card's.
        within: the figure is within one standard error of the card's; None for another part or other data.
    """

    card: WeightCard
    evaluation: Evaluation
    split: str
    same_data: bool

    @property
    def within(self) -> bool | None:
        if self.split != "test" or not self.same_data:
            return None
        assert self.evaluation.accuracy is not None
        return abs(self.evaluation.accuracy - self.card.value) <= self.card.standard_error


def evaluate_pretrained(
    name: str,
    *,
    split: Literal["test", "validation", "train"] = "test",
    batch_size: int | None = None,
    data_root: str | os.PathLike[str] | None = None,
    device: str | torch.device = "cpu",
) -> WeightCheck:
    """Measure the trained weights `name` (a model, or "model.tag") on the data that their card names.

    Args:
        split: "test" can be compared with the card.
        data_root: where the data lies; by default where RANVIER_DATA says.

    Raises `UnknownNameError` naming the weights that exist, and `DataError` where the data is missing.
    """
    card = weight_card(name)
    net = create_model(card.model, pretrained=card.tag)
    recipe = parse_recipe(card.recipe, f"the card of {card.name}")
    root = None if data_root is None else str(Path(data_root))
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"root": root})})
    splits = load_splits(recipe)
    dataset = {"test": splits.test, "validation": splits.validation, "train": splits.train}.get(split)
    if dataset is None:
        raise ArgumentError(f"split: the recipe of {card.name} has no part {split!r}; only train and test")
    found = evaluate(
        net, dataset, batch_size=batch_size or recipe.data.eval_batch_size, device=device, seed=card.seed,
        readout=recipe.train.readout,
    )  # fmt: skip
    return WeightCheck(card, found, split, splits.bundle.fingerprint == card.data["fingerprint"])


def pack_weights(
    runs: Sequence[str | os.PathLike[str]], tag: str, folder: str | os.PathLike[str], *, command: str, default: bool
) -> Path:
    """Write the weights of the best of `runs` and their card to `folder`; returns the path of the card.

    Args:
        runs: folders of finished runs of one recipe that differ in their seeds; the best on the validation part (or,
            where nothing was set aside, the first) is packed, whatever its test figure.
        tag: what these weights are called beside their model's name.
        command: what a reader types to train them.
        default: whether they are the model's weights when no tag is named.

    Raises `ArgumentError` for runs that are not finished, of several recipes, or weights of more than 2 MB.
    """
    pairs = [(_finished(run), RunFolder(run).recipe()) for run in runs]
    if not pairs or len({_without_seed(recipe) for _, recipe in pairs}) != 1:
        raise ArgumentError("runs must be finished runs of one recipe that differ in nothing but their seeds")
    result, recipe = max(pairs, key=lambda pair: (pair[0].validation or {}).get("accuracy", 0.0))
    content = to_bytes(load_weights(result.out / WEIGHTS))
    if len(content) > LARGEST:
        raise ArgumentError(f"{result.out}: {len(content):,} bytes of weights are more than the {LARGEST:,} of a wheel")
    root = {"root": None}
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update=root)})
    splits = load_splits(recipe)
    tests = [_accuracy(one) for one, _ in pairs]
    value, n = _accuracy(result), result.test.n
    card = WeightCard(
        model=result.model["name"], tag=tag, default=default, arguments=result.model["args"],
        sha256=hashlib.sha256(content).hexdigest(), bytes=len(content), params=result.params,
        data={
            "name": splits.bundle.name, "version": splits.bundle.version, "fingerprint": splits.bundle.fingerprint,
            "options": {k: v for k, v in splits.bundle.options.items() if v is not None and k != "path"},
            "classes": list(splits.bundle.classes), "train": len(splits.train),
            "validation": 0 if splits.validation is None else len(splits.validation), "test": n,
        },
        metric="accuracy", value=value, standard_error=math.sqrt(value * (1 - value) / n), n=n, seed=result.seed,
        seeds=tuple(
            {"seed": one.seed, "validation": (one.validation or {}).get("accuracy"), "test": _accuracy(one)}
            for one, _ in pairs
        ),
        mean=statistics.fmean(tests), deviation=statistics.stdev(tests) if len(tests) > 1 else None,
        recipe=recipe.model_dump(mode="json"), recipe_hash=recipe.hash(),
        date=datetime.now(UTC).date().isoformat(), command=command, machine=_machine(),
        train_s=round(result.train_s, 1),
    )  # fmt: skip
    place = Path(folder)
    with explained(f"write weights in {place}"):
        place.mkdir(parents=True, exist_ok=True)
        write_bytes(place / f"{card.name}.safetensors", content)
        write_json(place / f"{card.name}.json", card.to_json())
    return place / f"{card.name}.json"


def _finished(run: str | os.PathLike[str]) -> RunResult:
    result = RunFolder(run).result()
    if result is None:
        raise ArgumentError(f"runs: {run} is not a finished run")
    return result


def _accuracy(result: RunResult) -> float:
    if result.test.accuracy is None:
        raise ArgumentError(f"runs: {result.out} does not classify")
    return result.test.accuracy


def _without_seed(recipe: Recipe) -> str:
    return recipe.model_copy(update={"seed": 0}).hash()


def _machine() -> dict[str, Any]:
    found = environment()
    kept = ("ranvier", "git", "python", "packages", "platform", "processor", "cores", "threads")
    return {key: found[key] for key in kept}
