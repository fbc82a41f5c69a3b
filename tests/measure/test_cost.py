"""Latency, parameters, state."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

import ranvier
from ranvier.errors import ArgumentError
from ranvier.measure import latency, parameter_count, state_bytes


def test_latency_leaves_the_net_as_it_was() -> None:
    net = ranvier.create_model("spiking_mlp").train()
    x = torch.rand(6, 1, 8, 8)
    found = latency(net, x, runs=5, warmup=1)
    assert net.training
    assert (found.batch, found.runs, found.device) == (6, 5, "cpu")
    assert 0 < found.p10_ms <= found.median_ms <= found.p90_ms
    assert found.samples_per_s == pytest.approx(6e3 / found.median_ms)
    assert json.loads(json.dumps(found.to_dict()))["batch"] == 6
    assert latency(net, torch.rand(4, 2, 1, 8, 8), runs=1, warmup=0).batch == 2


@pytest.mark.parametrize("options", [{"runs": 0}, {"warmup": -1}, {"runs": 1.5}])
def test_latency_names_bad_arguments(options: dict) -> None:
    with pytest.raises(ArgumentError):
        latency(nn.Linear(2, 2), torch.rand(1, 2), **options)


def test_parameter_count() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4, bias=False))
    net.append(net[1])
    net[0].bias.requires_grad_(False)
    assert parameter_count(net) == 12 + 16
    assert parameter_count(net, trainable=False) == 12 + 4 + 16
    assert parameter_count(ranvier.create_model("spiking_mlp")) == 85_514


def test_state_of_a_stream() -> None:
    net = ranvier.create_model("spiking_mlp")
    x = torch.rand(3, 1, 8, 8)
    assert state_bytes(net, x) == 3 * (256 + 256) * 4
    with torch.no_grad(), ranvier.carry(net) as memory:
        net(x)
        before = memory.clone()
        assert state_bytes(net, x) == before.nbytes
        assert all(
            torch.equal(*pair)
            for key, old in before.states.items()
            for pair in zip(old, memory.states[key], strict=True)
        )
    assert state_bytes(nn.Linear(2, 2), torch.rand(1, 2)) == 0
