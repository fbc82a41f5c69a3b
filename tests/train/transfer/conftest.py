"""A small set of events whose pictures are scikit-learn's digits, and recipes that transfer from those."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from ranvier.data import DATASETS, ArraySamples, DatasetEntry, Parts, load
from ranvier.train import Recipe, parse_recipe

T = 4


def _events(root: Path | None, classes: int = 10) -> Parts:
    """Edges of moving digits: 120 recordings to train, 40 to test."""
    images = load("digits").train
    x, y = images.batch(range(160))
    kept = y < classes
    steps = [torch.roll(x, t, -1) for t in range(T + 1)]
    frames = [torch.cat([(b - a).clamp_min(0), (a - b).clamp_min(0)], 1) for a, b in pairwise(steps)]
    values = (4 * torch.stack(frames, 1)[kept]).round().to(torch.uint8)
    numbers = torch.arange(160)[kept].tolist()
    labels = y[kept]
    cut = len(labels) * 3 // 4
    parts = [ArraySamples(values[part], labels[part], scale=1) for part in (slice(cut), slice(cut, None))]
    parts[0].keys, parts[1].keys = ([f"{n}" for n in part] for part in (numbers[:cut], numbers[cut:]))
    return Parts(*parts, tuple("0123456789"), "events of digits")


@pytest.fixture
def digit_events() -> Iterator[str]:
    """The name of the data set."""
    name = "digit_events_of_tests"
    DATASETS.register(name)(
        DatasetEntry(kind="event", load=_events, find=lambda root: None, how="", needs_root=False)
    )  # fmt: skip
    try:
        yield name
    finally:
        del DATASETS._entries[name]


@pytest.fixture
def transfer_recipe(digit_events: str) -> Callable[..., Recipe]:
    """A recipe that trains in a second; `transfer_recipe(transfer={"sliding": "none"}, train={"epochs": 1})`."""

    def make(**changes: Any) -> Recipe:
        transfer = {"data": "digits", **changes.pop("transfer", {})}
        document: dict[str, dict[str, Any]] = {
            "data": {"name": digit_events, "batch_size": 24, "validation": 0},
            "model": {"name": "vgg_snn", "args": {"widths": [4, 6], "pools": [0, 1]}},
            "train": {
                "epochs": 2, "lr": 1e-2, "loss": "tet", "tet_lambda": 1e-3, "tet_target": 0.5, "schedule": "constant",
                "threads": 1, "accelerator": "cpu", "transfer": transfer,
            },
            "log": {"every": 2},
        }  # fmt: skip
        for key, value in changes.items():
            document[key] = {**document[key], **value}
        return parse_recipe({"name": "transfer", "seed": 3, **document})

    return make
