"""What learned delays need of the trainer: groups with rates of their own, published schedules, hooks, resuming."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn, optim

from ranvier.data.bundle import DATASETS, DatasetEntry, Parts
from ranvier.data.samples import Indices, Samples, as_index
from ranvier.errors import ConfigError
from ranvier.layers import DelayLinear, delay_layers
from ranvier.train import fit, list_recipes, load_recipe, load_run, parse_recipe
from ranvier.train.optimizer import build_optimizer, set_rates
from ranvier.train.phases import begin_epoch, constrained
from ranvier.train.recipe import TrainSection

GROUP = {"match": "*.delay", "lr": 0.1, "weight_decay": 0.0, "schedule": "cosine"}
PUBLISHED: dict[str, Any] = {
    "epochs": 150, "optimizer": "adam", "lr": 5e-3, "weight_decay": 1e-5, "schedule": "onecycle",
    "schedule_by": "epoch", "cycle_momentum": True, "groups": [GROUP],
}  # fmt: skip


class Patterns(Samples):
    """Two classes that differ in the order of two spikes only."""

    def __init__(self, count: int, seed: int) -> None:
        self.labels = torch.arange(count) % 2
        self.time_first = True
        onset = np.random.default_rng(seed).integers(0, 6, count)
        self.x = torch.zeros(14, count, 4)
        for i, (label, start) in enumerate(zip(self.labels.tolist(), onset.tolist(), strict=True)):
            for channel in range(4):
                lag = channel if label else 3 - channel
                self.x[start + 2 * lag, i, channel] = 1

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        index = as_index(indices, len(self))
        return self.x[:, index], self.labels[index]


@pytest.fixture
def patterns() -> Any:
    entry = DatasetEntry(
        kind="sequence", load=lambda root: Parts(Patterns(320, 0), Patterns(64, 1), ("up", "down"), "patterns"),
        find=lambda root: None, how="made here", needs_root=False,
    )  # fmt: skip
    DATASETS.register("delay-patterns")(entry)
    yield "delay-patterns"
    del DATASETS._entries["delay-patterns"]


def recipe(name: str, **train: Any) -> dict[str, Any]:
    return {
        "name": "delays",
        "data": {"name": name, "batch_size": 32, "validation": 32},
        "model": {"name": "delay_mlp_shd", "args": {"hidden": [24], "max_delay": 8, "dropout": 0.1, "rounded": 0.25}},
        "train": {**PUBLISHED, "epochs": 12, "readout": "softmax_sum", "accelerator": "cpu", **train},
    }


def test_rates_and_momenta_are_those_of_the_published_run() -> None:
    net = nn.Sequential(DelayLinear(4, 3, 8), nn.BatchNorm1d(3))
    train = TrainSection(**PUBLISHED)
    optimizer = build_optimizer(net, train)
    own = next(g for g in optimizer.param_groups if "train" in g)
    assert [p.shape for p in own["params"]] == [(3, 4, 1)] and own["weight_decay"] == 0
    decays = {tuple(p.shape): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    assert len(optimizer.param_groups) == 3 and decays[(3,)] == 0

    weights, delays = (nn.Parameter(torch.zeros(1)) for _ in range(2))
    adam, other = optim.Adam([weights], lr=1e-3), optim.Adam([delays], lr=0.1)
    cycle = optim.lr_scheduler.OneCycleLR(adam, max_lr=5e-3, total_steps=150)
    cosine = optim.lr_scheduler.CosineAnnealingLR(other, T_max=150)
    for epoch in range(150):
        for step in (0, 31):
            set_rates(optimizer, train, epoch * 32 + step, 150 * 32, 32)
            common = optimizer.param_groups[0]
            assert common["lr"] == pytest.approx(adam.param_groups[0]["lr"], abs=1e-9)
            assert common["betas"][0] == pytest.approx(adam.param_groups[0]["betas"][0], abs=1e-9)
            assert own["lr"] == pytest.approx(other.param_groups[0]["lr"], abs=1e-9)
            assert own["betas"] == (0.9, 0.999)
        adam.step()
        other.step()
        if epoch < 149:
            cycle.step()
        cosine.step()


def test_groups_that_match_nothing_are_an_error() -> None:
    train = TrainSection(**{**PUBLISHED, "groups": [{"match": "*.delays"}]})
    with pytest.raises(ConfigError, match=r"no trained parameter matches '\*\.delays'"):
        build_optimizer(nn.Sequential(DelayLinear(4, 3, 8)), train)


def test_recipes_check_the_cycling() -> None:
    for wrong in ({"schedule": "cosine"}, {"optimizer": "sgd"}):
        with pytest.raises(ConfigError, match="cycle_momentum needs"):
            parse_recipe(recipe("digits", **wrong))


def test_hooks_reach_every_module() -> None:
    class Watching(nn.Module):
        def begin_epoch(self, epoch: int, epochs: int) -> None:
            self.seen = (epoch, epochs)

    net = nn.Sequential(Watching(), nn.Sequential(Watching(), DelayLinear(2, 2, 3)))
    begin_epoch(net, 2, 9)
    assert all(m.seen == (2, 9) for m in net.modules() if isinstance(m, Watching))
    assert len(constrained(net)) == 1


def test_a_run_learns_rounds_and_resumes_to_the_bit(patterns: str, tmp_path: Path) -> None:
    whole = fit(parse_recipe(recipe(patterns)), tmp_path / "whole", progress=False)
    assert whole.test.accuracy is not None and whole.test.accuracy > 0.8
    net, _ = load_run(tmp_path / "whole")
    layers = delay_layers(net)
    assert all(s.delay.min().item() >= 0 and s.delay.max().item() <= 8 for s in layers)
    assert all(float(s.sigma) == pytest.approx(0.23) for s in layers)

    class StopError(Exception):
        pass

    from ranvier.train.session import Session

    update, calls = Session._update, 0

    def interrupted(self: Session, *args: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 93:  # inside the rounded phase
            raise StopError
        update(self, *args)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(StopError):
        patch.setattr(Session, "_update", interrupted)
        fit(parse_recipe(recipe(patterns)), tmp_path / "parts", progress=False)
    fit(parse_recipe(recipe(patterns)), tmp_path / "parts", progress=False)
    assert (tmp_path / "parts/model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()


def test_published_recipes_are_what_the_paper_trained() -> None:
    expected = {
        "shd_delays": (150, 256, 214_016),
        "ssc_delays": (60, 128, 2_458_624),
        "gsc_delays": (100, 128, 2_458_624),
    }
    from ranvier.models import create_model

    for name, (epochs, batch, params) in expected.items():
        assert name in list_recipes()
        found = load_recipe(name)
        assert (found.train.epochs, found.data.batch_size) == (epochs, batch)
        assert found.train.groups[0].lr == 0.1 and found.train.readout == "softmax_sum"
        with torch.device("meta"):
            model = create_model(found.model.name, **found.model.args)
        assert sum(p.numel() for p in model.parameters()) == params and model.tail == model.max_delay // 2
