"""Parity with NeuroBench 2.3.0: with stored figures of it always, with itself where the peers' environment has it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ranvier
from ranvier.errors import ArgumentError, MissingExtraError
from ranvier.measure import neurobench, to_neurobench
from ranvier.measure.neurobench_metrics.metrics import membrane_updates
from ranvier.neurons import IF, LIF

from . import neurobench_nets as nets
from .nets import Attention, Threshold, spikes

HERE = Path(__file__).parent
PEERS = HERE.parents[1] / ".venv-peers" / "bin" / "python"
STORED: dict[str, Any] = json.loads((HERE / "neurobench_2_3_0.json").read_text())["found"]


def assert_equal(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    for name in ("Footprint", "ParameterCount", "ConnectionSparsity", "MembraneUpdates", "ClassificationAccuracy"):
        if name in theirs:
            assert ours[name] == theirs[name], name
    assert ours["SynapticOperations"] == theirs["SynapticOperations"]  # exact, for the counts are integers a batch
    assert round(ours["ActivationSparsity"], 4) == round(theirs["ActivationSparsity"], 4)
    assert ours["ActivationSparsity"] == pytest.approx(theirs["ActivationSparsity"], abs=1e-12)


@pytest.mark.parametrize("name", list(nets.NETS))
def test_equals_what_neurobench_found(name: str) -> None:
    assert_equal(nets.ours(name), STORED[name])


def test_equals_neurobench_itself() -> None:
    if not PEERS.exists():
        pytest.skip("no .venv-peers (python -m benchmarks makes it)")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parents[1] / "src")}
    probe = subprocess.run([PEERS, "-W", "ignore", "-c", "import neurobench.models, snntorch"], capture_output=True)
    if probe.returncode:
        pytest.skip("neurobench and snntorch are not in .venv-peers")
    said = subprocess.run(
        [PEERS, "-W", "ignore", HERE / "neurobench_nets.py", "mlp", "spiking_mlp", "snntorch"],
        capture_output=True, text=True, env=environment, timeout=200,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr[-2000:]
    for name, found in json.loads(said.stdout).items():
        assert_equal(found["ranvier"], found["neurobench"])
        assert_equal(found["neurobench"], STORED[name])


def test_dense_input_and_weights_are_dense_operations() -> None:
    net = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 25, 3))
    nn.init.ones_(net[0].weight)
    found = neurobench(net, torch.ones(2, 2, 5, 5)).metrics["SynapticOperations"]
    inner = 13 * 13 * 2 * 4  # taps of a 5×5 image under 3×3 that do not meet padding
    assert found == {"Effective_MACs": 300.0, "Effective_ACs": inner, "Dense": inner + 300.0}


def test_bit_patterns_are_judged_by_call_and_by_element() -> None:
    net = nn.Sequential(nn.Linear(4, 5, bias=False))
    nn.init.ones_(net[0].weight)
    found = neurobench(net, torch.tensor([[1.0, -1.0, 0.0, 2.0]]))
    assert found.metrics["SynapticOperations"] == {"Effective_MACs": 15.0, "Effective_ACs": 0.0, "Dense": 20.0}
    assert found.extension["ElementwiseDecision"] == {"Effective_MACs": 5.0, "Effective_ACs": 10.0}


def test_zero_weights_are_no_operations() -> None:
    net = nn.Sequential(nn.Linear(4, 2, bias=False))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0, 0, 0, 2], [0, 0, 3, 4]]))
    found = neurobench(net, torch.ones(3, 4)).metrics
    assert found["SynapticOperations"] == {"Effective_MACs": 0.0, "Effective_ACs": 4.0, "Dense": 8.0}
    assert found["ConnectionSparsity"] == 0.5 and found["Footprint"] == 32


def test_membrane_updates_of_our_neurons() -> None:
    x = torch.zeros(4, 1, 3)
    x[:, 0, 0] = 0.25  # changes at every step
    x[2, 0, 1] = 0.5  # once
    assert membrane_updates(IF(), x) == 3 + 3 + 1
    assert membrane_updates(LIF(), torch.zeros(4, 2, 3)) == 6


def test_what_its_hooks_cannot_see() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.neuron, self.attention = nn.Linear(5, 5, bias=False), Threshold(), Attention()
            nn.init.eye_(self.embed.weight)

        def forward(self, x: Tensor) -> Tensor:
            return self.attention(self.neuron(self.embed(x)))

    x = spikes(3, 2, 3, 2, 7, 5, rate=0.4)
    found = neurobench(Net(), x, time_first=True)
    q, k, v = x.unbind(2)
    kv = (k.transpose(-1, -2) @ v).sum().item()
    attended = (q.sum(-2)[..., None] * (k.transpose(-1, -2) @ v != 0)).sum().item()
    products = found.extension["ActivationProducts"]
    assert products["Effective_ACs"] == pytest.approx((kv + attended) / 2) and products["Effective_MACs"] == 0
    assert found.metrics["SynapticOperations"]["Effective_ACs"] == pytest.approx(x.sum().item() / 2)
    assert json.loads(json.dumps(found.to_dict()))["neurobench_ext"]["neurobench_version"] == "2.3.0"
    assert list(found.extension["RatesByStep"]) == ["neuron"] and found.extension["T"] == 3


def test_batches_weigh_by_their_size_and_labels_are_read() -> None:
    net = ranvier.create_model("spiking_mlp", img_size=4, in_channels=1, T=2, num_classes=3, hidden=[8]).eval()
    x = torch.rand(5, 1, 4, 4)
    y = net(x).mean(0).argmax(-1)
    y[0] = (y[0] + 1) % 3
    whole = neurobench(net, x, y).metrics
    assert whole["ClassificationAccuracy"] == 0.8
    parts = neurobench(net, [(x[:2], y[:2]), (x[2:], y[2:])], [y[:2], y[2:]]).metrics
    assert parts["ClassificationAccuracy"] == 0.8
    assert parts["SynapticOperations"] == whole["SynapticOperations"]
    assert parts["ActivationSparsity"] == pytest.approx(whole["ActivationSparsity"])
    with pytest.raises(ArgumentError, match="labels"):
        neurobench(net, x, [y, y])


def test_the_net_is_left_alone_and_notes_tell_what_is_missing() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.RNN(4, 4)))
    net.train()
    found = neurobench(net, torch.ones(2, 3, 4), run=lambda model, x: model[0](x))
    assert net.training and not net[0]._forward_pre_hooks
    assert any("RNN" in note for note in found.notes)
    assert neurobench(nn.Sequential(nn.Flatten()), torch.ones(1, 3)).metrics["ConnectionSparsity"] is None
    with pytest.raises(ArgumentError, match="Module"):
        neurobench(lambda x: x, torch.ones(1, 3))  # type: ignore[arg-type]


def test_the_adapter_names_the_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "neurobench", None)
    with pytest.raises(MissingExtraError, match="pip install neurobench"):
        to_neurobench(nn.Flatten())
    with pytest.raises(ArgumentError, match="readout"):
        to_neurobench(nn.Flatten(), "sum")  # type: ignore[arg-type]


def test_layers_of_sparse_tensors_are_counted() -> None:
    torch.manual_seed(0)
    net = ranvier.create_model(
        "e3dsnn_seg_l",
        voxel_size=0.2,
        range=[0, 0, 0, 2, 2, 2],
        embed=4,
        channels=[4, 4],
        depths=[1, 1],
        decoder=[4, 4],
    )
    found = neurobench(net.eval(), torch.rand(2, 40, 4) * 2).to_dict()["neurobench"]
    assert found["SynapticOperations"]["Dense"] > 0
