"""Alignment by layer and histograms of membranes, in closed cases and as a page."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from ranvier.errors import ArgumentError, ShapeError
from ranvier.models import create_model
from ranvier.train import Recipe, fit
from ranvier.train.transfer import Tap, cka, diagnose_domains, tapped
from ranvier.train.transfer.study import diagnose_runs


def net() -> torch.nn.Module:
    torch.manual_seed(0)
    return create_model("vgg_snn", num_classes=3, widths=(4, 6), pools=(0,), img_size=8, T=3).double()


def test_a_domain_with_itself() -> None:
    x = 3 * torch.rand(3, 8, 2, 8, 8, dtype=torch.float64)
    found = diagnose_domains(net(), x, x)
    assert found.static_layers == found.event_layers == ("blocks.0.neuron", "blocks.1.neuron")
    assert list(found.diagonal.values()) == pytest.approx([1, 1])
    assert [h.distance for h in found.histograms.values()] == [0, 0]
    assert all(sum(h.static) == pytest.approx(1, abs=1e-5) for h in found.histograms.values())


def test_entries_are_alignments_of_membranes() -> None:
    model, other = net().eval(), net().eval()
    x, y = (3 * torch.rand(3, 8, 2, 8, 8, dtype=torch.float64) for _ in range(2))
    found = diagnose_domains(model, x, y, other)
    with torch.no_grad(), tapped(other, Tap("blocks.0.neuron", "membrane")) as a:
        other(x)
    with torch.no_grad(), tapped(model, Tap("blocks.1.neuron", "membrane")) as b:
        model(y)
    features = [f[0].mean(0).flatten(1) for f in (a, b)]
    assert found.debiased[0][1] == pytest.approx(float(cka(*features, debiased=True)), abs=1e-9)
    assert found.biased[0][1] == pytest.approx(float(cka(*features)), abs=1e-9)
    assert 0 < found.histograms["blocks.0.neuron"].distance < 1


def test_bad_input() -> None:
    x = torch.rand(3, 8, 2, 8, 8, dtype=torch.float64)
    with pytest.raises(ShapeError, match="four"):
        diagnose_domains(net(), x[:, :3], x[:, :3])
    with pytest.raises(ShapeError, match="same samples"):
        diagnose_domains(net(), x, x[:, :5])
    with pytest.raises(ArgumentError, match="no neurons"):
        diagnose_domains(torch.nn.Identity(), x, x)
    with pytest.raises(ArgumentError, match="at least one"):
        diagnose_runs([])


def test_page_of_runs(transfer_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    from ranvier.cli.app import app

    fit(transfer_recipe(train={"epochs": 1}), tmp_path / "both", progress=False)
    fit(transfer_recipe(train={"epochs": 1}, transfer={"data": None}), tmp_path / "events", progress=False)
    pair = f"{tmp_path / 'both'},{tmp_path / 'events'}"
    out = tmp_path / "page"
    result = CliRunner().invoke(
        app, ["transfer", pair, str(tmp_path / "both"), "--out", str(out), "--samples", "20", "--json"]
    )
    assert result.exit_code == 0, result.output
    document = json.loads((out / "transfer.json").read_text())
    assert set(document["nets"]) == {pair, str(tmp_path / "both")} and document["notes"]["images"] == "digits"
    html = (out / "index.html").read_text()
    assert html.count("<svg") > 5 and "blocks.1.neuron" in html
    with pytest.raises(ArgumentError, match="name the data set"):
        diagnose_runs([str(tmp_path / "events")])
