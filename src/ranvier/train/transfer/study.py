"""The diagnosis of trained runs, on their own test recordings and training images of the same classes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import ranvier.data as data_room
from ranvier.data.split import stratified
from ranvier.errors import ArgumentError, ShapeError
from ranvier.train.assemble import load_splits
from ranvier.train.run import load_run
from ranvier.train.transfer.diagnose import DomainDiagnosis, diagnose_domains
from ranvier.train.transfer.image import StaticToEvent
from ranvier.train.transfer.pairs import PairedImages


def diagnose_runs(
    runs: Sequence[str],
    images: str | None = None,
    samples: int = 100,
    data_root: str | os.PathLike[str] | None = None,
    seed: int = 0,
) -> tuple[dict[str, DomainDiagnosis], dict[str, Any]]:
    """A `DomainDiagnosis` for every entry of `runs`, by name, and notes on what was compared.

    Args:
        runs: folders; `IMAGES,EVENTS` gives the static samples to the net of the first.
        images: the data set of images; by default that of the runs' recipes.
        samples: recordings of the test part of the last run, a stratified part of it.
        data_root: where the data lies now.
        seed: of the images that are drawn.
    """
    if not runs:
        raise ArgumentError("runs must name at least one folder")
    nets = {entry: [load_run(folder) for folder in entry.split(",")] for entry in runs}
    for entry, pair in nets.items():
        if len(pair) > 2:
            raise ArgumentError(f"runs: {entry!r} names {len(pair)} folders; expected RUN or IMAGES,EVENTS")
    recipes = [pair[-1][1] for pair in nets.values()]
    named = next((recipe for recipe in recipes if recipe.train.transfer.data is not None), None)
    source = images or (None if named is None else named.train.transfer.data)
    if source is None:
        raise ArgumentError("images: none of the runs learned from images; name the data set, such as images='mnist'")
    recipe = recipes[-1]
    if data_root is not None:
        recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"root": str(Path(data_root))})})
    splits = load_splits(recipe)
    events = splits.test
    options = named.train.transfer.options if named is not None and source == named.train.transfer.data else {}
    bundle = data_room.load(source, recipe.data.root, **options)
    count = min(samples, len(events))
    rows = torch.from_numpy(stratified(events.labels.numpy(), count, seed))
    pairs = PairedImages(events, bundle.train, splits.bundle.classes, bundle.classes)
    x, _ = events.batch(rows)
    if x.dim() != 5:
        raise ShapeError(f"the run must be on frames of events [T, B, C, H, W], got {tuple(x.shape)}")
    T, _, channels, height, width = x.shape
    frames = StaticToEvent(T, channels, (height, width), recipe.train.transfer.channel)
    static = frames(pairs.batch(rows, torch.Generator().manual_seed(seed)))
    found: dict[str, DomainDiagnosis] = {}
    for entry, pair in nets.items():
        dtype = next(pair[-1][0].parameters()).dtype
        other = pair[0][0] if len(pair) == 2 else None
        found[entry] = diagnose_domains(pair[-1][0], static.to(dtype), x.to(dtype), other)
    notes = {"events": splits.bundle.name, "images": source, "recordings": count, "seed": seed}
    return found, notes
