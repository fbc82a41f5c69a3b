"""Small runs on real digits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ranvier.train import Recipe, parse_recipe

SMALL: dict[str, Any] = {
    "name": "small",
    "seed": 3,
    "data": {"name": "digits", "batch_size": 32, "limit_train": 200, "limit_test": 60, "validation": 40},
    "model": {"name": "spiking_mlp", "args": {"T": 2, "hidden": [24]}},
    "train": {"epochs": 2, "lr": 1e-2, "schedule": "constant", "threads": 1, "accelerator": "cpu"},
    "log": {"every": 2},
}


@pytest.fixture
def small() -> Callable[..., Recipe]:
    """A recipe that trains in a second, with sections changed: `small(train={"epochs": 1}, seed=4)`."""

    def make(**changes: Any) -> Recipe:
        document = {**SMALL}
        for key, value in changes.items():
            document[key] = {**SMALL[key], **value} if isinstance(value, dict) else value
        return parse_recipe(document)

    return make
