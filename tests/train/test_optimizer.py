from __future__ import annotations

import pytest
import torch
from torch import nn

from ranvier.errors import ConfigError
from ranvier.neurons import PLIF
from ranvier.train.average import WeightAverage
from ranvier.train.optimizer import build_optimizer, split_decay
from ranvier.train.recipe import TrainSection


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), PLIF(), nn.Linear(4, 2, bias=False))


def test_only_weights_are_decayed() -> None:
    module = net()
    decayed, spared = split_decay(module)
    assert {id(p) for p in decayed} == {id(module[0].weight), id(module[3].weight)}
    assert len(decayed) + len(spared) == len(list(module.parameters()))
    assert any(p is q for p in spared for q in module[2].parameters())
    assert split_decay(module, decay_norm=True)[1] == []


def test_groups_have_their_decay() -> None:
    optimizer = build_optimizer(net(), TrainSection(weight_decay=0.5, lr=0.25))
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.5, 0.0]


@pytest.mark.parametrize(("name", "kind"), [("adamw", "AdamW"), ("adam", "Adam"), ("sgd", "SGD")])
def test_by_name(name: str, kind: str) -> None:
    section = TrainSection.model_validate({"optimizer": name})
    assert type(build_optimizer(net(), section)).__name__ == kind


def test_frozen_parameters_stay_out() -> None:
    module = net()
    module[0].weight.requires_grad_(False)
    assert len(split_decay(module)[0]) == 1
    with pytest.raises(ConfigError, match="no parameter"):
        build_optimizer(module.requires_grad_(False), TrainSection())


def test_average_follows_its_formula() -> None:
    module = nn.BatchNorm1d(2).double()
    average = WeightAverage(module, decay=0.5)
    before = module.weight.detach().clone()
    with torch.no_grad():
        module.weight.add_(1.0)
        module.num_batches_tracked.add_(3)
    average.update(module, updates=1)  # decay min(0.5, 2 / 11)
    torch.testing.assert_close(average.net.weight, before + 9 / 11)
    assert int(average.net.num_batches_tracked) == 3
    average.update(module, updates=1000)
    torch.testing.assert_close(average.net.weight, before + 1 - (2 / 11) * 0.5)
    assert not any(p.requires_grad for p in average.net.parameters())
