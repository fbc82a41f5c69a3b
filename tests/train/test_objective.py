"""Denoising as an objective of the trainer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ranvier.data import load
from ranvier.errors import ConfigError
from ranvier.models import Denoiser, create_model
from ranvier.train import Recipe, evaluate, fit, load_run
from ranvier.train.objective import measure_denoising


@pytest.fixture
def denoising(small: Callable[..., Recipe]) -> Recipe:
    recipe = small(train={"loss": "denoising", "epochs": 2, "ema": 0.9})
    model = recipe.model.model_copy(update={"name": "spiking_unet_small", "args": {"T": 2, "channels": 4}})
    return recipe.model_copy(update={"model": model})


def test_a_denoiser_is_trained_resumed_and_loaded(denoising: Recipe, tmp_path: Path) -> None:
    result = fit(denoising, tmp_path / "whole", progress=False)
    assert result.test.accuracy is None
    assert result.test.accuracy_by_step == ()
    assert set(result.validation or {}) == {"loss"}
    entries = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert all("train_accuracy" not in e and "val_accuracy" not in e for e in entries)
    net, _ = load_run(tmp_path / "whole")
    assert isinstance(net, Denoiser)
    again = evaluate(tmp_path / "whole", seed=denoising.seed)
    assert again.loss == pytest.approx(result.test.loss, rel=1e-6)

    half = denoising.model_copy(update={"train": denoising.train.model_copy(update={"max_steps": 6})})
    assert fit(half, tmp_path / "half", progress=False).steps == 6


def test_learning_lowers_the_error(denoising: Recipe, tmp_path: Path) -> None:
    longer = denoising.model_copy(update={"train": denoising.train.model_copy(update={"epochs": 12, "ema": 0.0})})
    fit(longer, tmp_path, progress=False)
    losses = [
        entry["train_loss"]
        for entry in map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
        if "train_loss" in entry
    ]
    assert losses[-1] < 0.6 * losses[0]


def test_measurement_depends_on_the_seed_only() -> None:
    net = create_model("spiking_unet_small", img_size=8, T=2, channels=4)
    data = load("digits", test_size=40).test
    torch.manual_seed(5)
    a = measure_denoising(net, data, 40)
    torch.manual_seed(6)
    b = measure_denoising(net, data, 40)
    assert a.loss == b.loss
    assert a.loss != measure_denoising(net, data, 40, seed=1).loss
    assert net.training
    assert a.loss == pytest.approx(1, abs=0.3)  # an untrained net predicts about nothing of unit noise


def test_recipe_and_model_must_agree(denoising: Recipe, small: Callable[..., Recipe], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"train\.loss"):
        fit(small(train={"loss": "denoising"}), tmp_path / "a", progress=False)
    wrong = denoising.model_copy(update={"train": denoising.train.model_copy(update={"loss": "cross_entropy"})})
    with pytest.raises(ConfigError, match="denoising"):
        fit(wrong, tmp_path / "b", progress=False)
