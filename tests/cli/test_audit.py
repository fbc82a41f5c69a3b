"""`ranvier audit` and `ranvier energy` on small nets."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch

from ranvier import measure
from ranvier.cli import subject

Ranvier = Callable[..., Any]
SMALL = ["spiking_mlp", "T=2", "hidden=[16]", "--data", "digits", "--samples", "4"]


def test_audit_names_what_enters_each_layer(ranvier: Ranvier) -> None:
    outcome = ranvier("audit", *SMALL, "--json")
    assert outcome.code == 0, outcome.err
    audit = json.loads(outcome.out)
    assert audit["spike_driven"] is True
    assert [layer["verdict"] for layer in audit["layers"]] == ["encoder", "spikes"]
    assert audit["input"] == "4 test samples of digits"
    assert audit["T"] == 2
    shown = ranvier("audit", *SMALL).out
    for layer in audit["layers"]:
        assert layer["name"] in shown


def test_audit_check_tells_by_its_exit_code(ranvier: Ranvier) -> None:
    assert ranvier("audit", *SMALL, "--check").code == 0
    counting = ["neuron.type=integer_lif", "neuron.levels=4", "encoder=direct"]
    assert ranvier("audit", *SMALL, *counting, "--check").code == 1
    assert ranvier("audit", *SMALL, *counting, "--check", "--allow-counts").code == 0


def test_the_two_accountings_agree_with_the_library(ranvier: Ranvier) -> None:
    seen = subject.find("spiking_mlp", ["T=2", "hidden=[16]"], "digits", None, 4, 0)
    report = measure.count(seen.net, seen.x)
    built = json.loads(ranvier("energy", *SMALL, "--json").out)
    paper = json.loads(ranvier("energy", *SMALL, "--accounting", "paper", "--json").out)
    assert built["total_pj"] == measure.energy.as_built(report).total_pj
    assert paper["total_pj"] == measure.energy.paper(report).total_pj
    assert (built["kind"], paper["kind"]) == ("as_built", "paper")
    with_memory = json.loads(ranvier("energy", *SMALL, "--memory", "1.5", "--json").out)
    assert with_memory["total_pj"] > built["total_pj"]


def test_one_table_holds_one_accounting(ranvier: Ranvier) -> None:
    out = ranvier("energy", *SMALL).out
    assert "as built: " in out
    assert "paper" not in out


def test_fresh_nets_are_not_silent_and_repeat(ranvier: Ranvier) -> None:
    arguments = ["spikformer", "img_size=8", "in_channels=1", "T=2", "embed_dim=32", "depth=1", "num_heads=4"]
    first = ranvier("audit", *arguments, "--json").out
    assert json.loads(first)["silent"] == []
    assert ranvier("audit", *arguments, "--json").out == first
    assert ranvier("audit", *arguments, "--seed", "1", "--json").out != first


def test_fitting_the_norms_leaves_the_net_otherwise_as_it_was() -> None:
    seen = subject.find("spiking_mlp", ["T=2"], None, None, 4, 0)
    norm = next(m for m in seen.net.modules() if isinstance(m, torch.nn.BatchNorm1d))
    assert norm.momentum == 0.1
    assert not seen.net.training
    assert all(p.grad is None for p in seen.net.parameters())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["audit", "spiking_mpl"], "did you mean 'spiking_mlp'?"),
        (["audit", "spiking_mlp", "hiden=[3]"], "did you mean 'hidden'?"),
        (["energy", "spiking_mlp", "--accounting", "papr"], "did you mean 'paper'?"),
        (["energy", "spiking_mlp", "--accounting", "paper", "--memory", "step"], "fixed constants"),
        (["energy", "spiking_mlp", "--memory", "sram"], "sram_8kb"),
        (["energy", "spiking_mlp", "--samples", "0"], "--samples"),
    ],
)
def test_errors(arguments: list[str], said: str, ranvier: Ranvier) -> None:
    outcome = ranvier(*arguments)
    assert outcome.code == 2
    assert said in outcome.err
    assert outcome.err.count("\n") == 1


def test_json_has_a_block_for_every_energy_model_and_one_of_neurobench(ranvier: Ranvier) -> None:
    found = json.loads(ranvier("energy", *SMALL, "--bits", "3", "--json").out)
    assert list(found["energy"]) == list(measure.energy.ENERGY_MODELS)
    for name, block in found["energy"].items():
        assert block["total_pj"] == pytest.approx(sum(block["breakdown"].values())), name
        assert block["constants"] and block["layers"]
    assert found["energy"]["bit_serial"]["constants"]["bits"] == 3
    assert found["energy"]["event"]["constants"]["flow"] == "event"
    metrics = found["neurobench"]
    assert metrics["SynapticOperations"]["Dense"] > 0 and metrics["Footprint"] > 4 * 16 * 64
    assert found["neurobench_ext"]["T"] == 2


@pytest.mark.parametrize("accounting", ["event", "tiled", "lemaire2022", "bit_serial"])
def test_each_accounting_has_its_table(accounting: str, ranvier: Ranvier) -> None:
    said = ranvier("energy", *SMALL, "--accounting", accounting).out
    assert f"{accounting.replace('_', ' ')}: " in said and "head" in said
    told = json.loads(ranvier("energy", *SMALL, "--accounting", accounting, "--json").out)
    assert told["total_pj"] == told["energy"][accounting]["total_pj"]
