from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor, nn

import ranvier
from ranvier.errors import ArgumentError
from ranvier.measure import audit, count
from ranvier.neurons import LIF, IntegerLIF

from .nets import Threshold, spikes


class Net(nn.Module):
    """Stem, neuron, body, and a head on what `read` makes of the spikes; `[T, B, 8]`."""

    def __init__(self, neuron: nn.Module, read: str = "spikes") -> None:
        super().__init__()
        self.stem, self.neuron, self.body, self.last = nn.Linear(8, 16), neuron, nn.Linear(16, 16), Threshold()
        self.head, self.read = nn.Linear(16, 3), read
        with torch.no_grad():
            self.stem.weight.abs_().mul_(4)
            self.body.weight.abs_().mul_(4)

    def forward(self, x: Tensor) -> Tensor:
        s = self.neuron(self.stem(x))
        y = self.last(self.body(s))
        y = {"spikes": y, "mean": y.mean(0), "residual": y + s, "softmax": y.softmax(-1)}[self.read]
        return self.head(y)


def verdicts(net: nn.Module, **options: object) -> dict[str, str]:
    return {row.name: row.verdict for row in audit(net, torch.rand(3, 5, 8), time_first=True, **options).rows}  # type: ignore[arg-type]


def test_a_spike_driven_net() -> None:
    found = audit(Net(LIF()), torch.rand(3, 5, 8), time_first=True)
    assert found.spike_driven and found.violations == () and found.silent == ()
    assert [row.verdict for row in found.rows] == ["encoder", "spikes", "spikes"]
    assert "spike-driven" in str(found).splitlines()[-1]


def test_residual_counts_violate_unless_allowed() -> None:
    net = Net(LIF(), "residual")
    assert verdicts(net) == {"stem": "encoder", "body": "spikes", "head": "violation"}
    assert verdicts(net, allow_counts=True)["head"] == "spikes"
    integer = Net(IntegerLIF(levels=4))
    nn.init.constant_(integer.stem.weight, 0.1)
    assert verdicts(integer)["body"] == "violation"
    assert verdicts(integer, allow_counts=True)["body"] == "spikes"


def test_real_values_violate() -> None:
    found = audit(Net(LIF(), "softmax"), torch.rand(3, 5, 8), time_first=True)
    assert found.violations == ("head",) and not found.spike_driven
    assert found.notes == ("softmax on real values",)


def test_the_encoder_is_configurable() -> None:
    net = Net(LIF())
    assert verdicts(net, encoder=())["stem"] == "violation"
    assert verdicts(net, encoder=("stem", "body"))["stem"] == "encoder"
    with pytest.raises(ArgumentError, match="did you mean 'stem'"):
        verdicts(net, encoder=["stm"])
    with pytest.raises(ArgumentError, match="sequence"):
        verdicts(net, encoder="stem")
    assert audit(net, spikes(3, 5, 8), time_first=True).rows[0].verdict == "spikes"


def test_an_ann_is_not_spike_driven() -> None:
    net = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    found = audit(net, torch.randn(4, 8))
    assert not found.spike_driven and found.violations == ("2",)
    assert not audit(net[0], torch.randn(4, 8)).spike_driven


def test_silence_is_not_evidence() -> None:
    net = Net(LIF())
    found = audit(net, torch.zeros(3, 5, 8) + 1e-6, time_first=True)
    assert "body" in found.silent and not found.spike_driven
    assert "received nothing" in found.summary()


def test_products_need_spikes_on_one_side() -> None:
    class Product(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.neuron, self.k = nn.Linear(8, 8), Threshold(), nn.Linear(8, 8)
            with torch.no_grad():
                self.q.weight.abs_().mul_(4)

        def forward(self, x: Tensor) -> Tensor:
            q = self.neuron(self.q(x))
            return q @ self.k(q).transpose(-1, -2) @ self.k(q)

    rows = audit(Product(), torch.rand(2, 5, 8)).rows
    assert [row.verdict for row in rows if row.op == "matmul"] == ["spikes", "violation"]


def test_forms_of_the_answer() -> None:
    report = count(Net(LIF(), "residual"), torch.rand(3, 5, 8), time_first=True)
    found = audit(Net(LIF()), report)
    document = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert document["violations"] == ["head"] and document["spike_driven"] is False
    text = str(found)
    assert "integer (≤ 2)" in text and "not spike-driven: 1 of 3" in text
    assert found.table().row_count == 3
    with pytest.raises(ArgumentError, match="count"):
        audit(Net(LIF()), report, T=3)


def test_a_registered_model() -> None:
    found = audit(ranvier.create_model("spiking_mlp"), torch.rand(16, 1, 8, 8) * 8)
    assert found.spike_driven or found.silent
    assert found.rows[0].verdict == "encoder"
