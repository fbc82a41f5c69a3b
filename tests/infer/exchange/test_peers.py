"""Graphs written for another library give the same spikes there."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError
from ranvier.infer.exchange import to_nir
from ranvier.layers.conv import ConvBNNeuron
from ranvier.layers.delays import DelayLinear
from ranvier.neurons import IF, LIF, CubaLIF, NeuronFactory

PYTHON = Path(__file__).parents[3] / ".venv-peers" / "bin" / "python"
READER = Path(__file__).with_name("peer_reader.py")
PEERS = ("norse", "snntorch", "spikingjelly", "sinabs")


class _Conv(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        make = NeuronFactory("lif")
        self.first = ConvBNNeuron(2, 4, make, pool=nn.AvgPool2d(2))
        self.second = ConvBNNeuron(4, 4, make)
        self.head = nn.Linear(64, 5)
        self.neuron = make(channels=5)

    def forward(self, x: Tensor) -> Tensor:
        return self.neuron(self.head(self.second(self.first(x)).flatten(2)))


def _mlp(neuron: type[nn.Module], **options: object) -> nn.Module:
    return nn.Sequential(nn.Linear(6, 24), neuron(**options), nn.Linear(24, 12), neuron(**options))


def _cases(peer: str) -> dict[str, tuple[Any, Tensor]]:
    reset = "soft" if peer == "sinabs" else "hard"
    cases: dict[str, tuple[Any, Tensor]] = {
        "lif": (_mlp(LIF, tau=2.5, reset=reset), torch.rand(25, 3, 6) * 4),
        "undivided": (_mlp(LIF, tau=2.5, reset=reset, decay_input=False), torch.rand(25, 3, 6) * 1.5),
    }
    if peer == "sinabs":  # its neurons may spike several times a step: weak currents only, no weight far above others
        for net, _ in cases.values():
            for module in net:
                if isinstance(module, nn.Linear):
                    module.weight.data.uniform_(0.05, 0.06)
    if peer in ("norse", "spikingjelly"):
        cases["if"] = _mlp(IF), torch.rand(25, 3, 6)
    if peer == "spikingjelly":
        cases["current"] = _mlp(CubaLIF, reset="hard"), torch.rand(25, 3, 6)
    if peer != "sinabs":  # others flatten the batch too
        cases["conv"] = _Conv(), torch.rand(25, 1, 2, 8, 8) * 4
    for net, x in cases.values():
        _enliven(net, x)
    return cases


def _enliven(net: nn.Module, x: Tensor) -> None:
    """Weights at which some neurons of the last layer fire and some do not."""
    for module in net.eval().modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.uniform_(0, 0.2)
            module.running_var.uniform_(0.2, 0.6)
    weighted = [m for m in net.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    for module in weighted:
        module.weight.data += module.weight.data.abs() * 0.5
    with torch.no_grad():
        while net(x).mean() < 0.08:
            for module in weighted:
                module.weight.data *= 1.1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """All graphs, run by all peers in one process."""
    if not PYTHON.exists():
        pytest.skip("there is no environment of the peers (.venv-peers); benchmarks/peers.py makes it")
    torch.manual_seed(3)
    place = tmp_path_factory.mktemp("peers")
    for peer in PEERS:
        for case, (net, x) in _cases(peer).items():
            to_nir(net, place / f"{peer}-{case}.nir", example=x, target=peer)
            np.save(place / f"{peer}-{case}-in.npy", x.numpy())
            with torch.no_grad():
                np.save(place / f"{peer}-{case}-mine.npy", net(x).numpy())
    subprocess.run([PYTHON, READER, place, *PEERS], check=True, capture_output=True, timeout=300)
    yield place


@pytest.mark.parametrize("peer", PEERS)
def test_the_same_spikes(folder: Path, peer: str) -> None:
    compared = 0
    for path in sorted(folder.glob(f"{peer}-*.nir")):
        failure = path.with_suffix(".txt")
        if failure.exists() and "ModuleNotFoundError" in failure.read_text():
            pytest.skip(f"{peer} is not installed in .venv-peers")
        assert not failure.exists(), failure.read_text()
        mine = np.load(path.with_name(f"{path.stem}-mine.npy"))
        theirs = np.load(path.with_name(f"{path.stem}-out.npy")).reshape(mine.shape)
        assert 0.02 < mine.mean() < 0.98, path.stem  # neither silent nor always on
        assert np.array_equal(mine, theirs), (path.stem, (mine != theirs).mean())
        compared += 1
    assert compared >= 2


@pytest.mark.parametrize(
    ("peer", "net", "named"),
    [
        ("snntorch", nn.Sequential(DelayLinear(6, 4, 3)), "Linear|Delay"),
        ("snntorch", _mlp(IF), "IF"),
        ("sinabs", _mlp(LIF), "subtracts"),
        ("norse", _mlp(CubaLIF, reset="hard"), "CubaLIF"),
    ],
)
def test_what_a_reader_cannot_is_named(peer: str, net: nn.Module, named: str) -> None:
    with pytest.raises(ArgumentError, match=named):
        to_nir(net, example=torch.zeros(2, 1, 6), target=peer)
