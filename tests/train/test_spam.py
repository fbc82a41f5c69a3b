"""SPAM in recipes: built from its section, resumed to the same bits."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ranvier.errors import ConfigError
from ranvier.models import create_model
from ranvier.optim import SPAM, StableSPAM
from ranvier.train import Interrupted, Recipe, fit, session
from ranvier.train.optimizer import build_optimizer
from ranvier.train.recipe import TrainSection

MakeRecipe = Callable[..., Recipe]


def build(**train: Any) -> torch.optim.Optimizer:
    net = create_model("spiking_mlp", hidden=(8, 8))
    return build_optimizer(net, TrainSection.model_validate({"weight_decay": 0.1, **train}))


def test_by_name() -> None:
    spam = build(optimizer="spam", spam={"threshold": 100.0, "warmup_steps": 30, "bias_correction": "restart"})
    assert isinstance(spam, SPAM) and spam.bias_correction == "restart"
    first = spam.param_groups[0]
    assert (first["threshold"], first["warmup_steps"], first["reset_interval"], first["eps"]) == (100.0, 30, 500, 1e-6)
    assert [group["weight_decay"] for group in spam.param_groups] == [0.1, 0.0]
    stable = build(optimizer="stable_spam", spam={"gamma1": 0.85, "reset_interval": 50})
    assert isinstance(stable, StableSPAM) and stable.param_groups[0]["gamma1"] == 0.85
    assert (stable.param_groups[0]["reset_interval"], stable.param_groups[0]["eps"]) == (50, 1e-8)


def test_sparse_layers_by_name() -> None:
    spam = build(optimizer="spam", spam={"density": 0.25, "include": ["linears"]})
    shares = {group["density"]: len(group["params"]) for group in spam.param_groups if group["weight_decay"]}
    assert shares == {0.25: 2, 1.0: 1}
    assert all(group["density"] == 0.25 for group in build(optimizer="spam", spam={"density": 0.25}).param_groups)
    with pytest.raises(ConfigError, match=r"train\.spam\.include: no layer's name holds any of \['attn'\]"):
        build(optimizer="spam", spam={"density": 0.25, "include": ["attn"]})


@pytest.mark.parametrize("options", [{"density": 0.5, "include": ["linears"]}, {"bias_correction": "restart"}])
def test_an_interrupted_run_continues_to_the_same_bits(
    options: dict[str, Any], small: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spam = {"reset_interval": 3, "warmup_steps": 2, "grace_steps": 1, **options}
    recipe = small(train={"optimizer": "spam", "spam": spam, "epochs": 2})
    fit(recipe, tmp_path / "whole", progress=False)
    real, done = session.Session._update, []

    def update(self: session.Session, *args: Any) -> None:
        real(self, *args)
        done.append(1)
        if len(done) == 4:
            os.kill(os.getpid(), 2)  # Ctrl-C

    with monkeypatch.context() as patch:
        patch.setattr(session.Session, "_update", update)
        with pytest.raises(Interrupted):
            fit(recipe, tmp_path / "cut", progress=False)
    fit(recipe, tmp_path / "cut", progress=False)
    for name in ("model.safetensors", "metrics.jsonl"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes()
