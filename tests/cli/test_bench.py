"""`ranvier bench` and `ranvier report` on one small cell."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Ranvier = Callable[..., Any]

SUITE = """
name: tiny
version: 1
title: One small net
budget_minutes: 1
base:
  data: {limit_train: 100, limit_test: 40}
  train: {epochs: 1}
models: [{name: spiking_mlp, args: {T: 2, hidden: [16]}}]
data: [digits]
seeds: [0]
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(SUITE)
    return path


def test_run_skip_and_report(suite: Path, ranvier: Ranvier, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = ranvier("bench", suite, "--out", out, "--runner", "inline", "--json")
    assert first.code == 0, first.err
    found = json.loads(first.out)
    assert (found["ran"], found["skipped"], found["failures"]) == (1, 0, [])
    assert found["index"] == str(out / "index.html")
    [row] = found["leaderboard"]
    assert row["model"] == "spiking_mlp"
    assert 0 <= row["accuracy"]["mean"] <= 1
    again = ranvier("bench", suite, "--out", out, "--runner", "inline")
    assert again.code == 0
    assert "1 finished earlier, 0 run now" in again.out
    assert f"report: {out / 'index.html'}" in again.out
    (out / "index.html").unlink()
    assert json.loads(ranvier("report", out, "--json").out) == {"index": str(out / "index.html")}
    assert (out / "index.html").is_file()
    assert ranvier("report", out, "--check").code == 0


def test_check_finds_a_changed_result(suite: Path, ranvier: Ranvier, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert ranvier("bench", suite, "--out", out, "--runner", "inline", "--json").code == 0
    [path] = (out / "results").glob("*.json")
    document = json.loads(path.read_text())
    document["seed"] = 7
    path.write_text(json.dumps(document))
    outcome = ranvier("report", out, "--check", "--json")
    assert outcome.code == 1
    assert json.loads(outcome.out)["valid"] is False
    assert "1 problems" not in ranvier("report", out, "--check").err


def test_list(ranvier: Ranvier) -> None:
    assert "quick" in ranvier("bench", "--list").out.splitlines()
    assert "quick" in json.loads(ranvier("bench", "--list", "--json").out)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "name a suite"),
        (["quik"], "did you mean 'quick'?"),
        (["nowhere.yaml"], "nowhere.yaml"),
        (["quick", "--only", "nonsense"], "nonsense"),
        (["quick", "--runner", "threads"], "runner"),
    ],
)
def test_wrong_usage_is_one_line(arguments: list[str], said: str, ranvier: Ranvier, tmp_path: Path) -> None:
    outcome = ranvier("bench", *arguments, "--out", tmp_path / "out")
    assert outcome.code == 2
    assert said in outcome.err
    assert outcome.err.count("\n") == 1
    assert not list(tmp_path.rglob("results/*"))


def test_a_failed_cell_ends_in_exit_code_1(suite: Path, ranvier: Ranvier, tmp_path: Path) -> None:
    suite.write_text(SUITE.replace("T: 2", "T: 2, nonsense: 3"))
    outcome = ranvier("bench", suite, "--out", tmp_path / "out", "--runner", "inline")
    assert outcome.code == 1
    assert "failed: " in outcome.err
    assert "nonsense" in outcome.err


def test_reporting_on_nothing(ranvier: Ranvier, tmp_path: Path) -> None:
    assert ranvier("report", tmp_path).code == 3
    assert ranvier("report", tmp_path, "--check").code == 3


def test_a_configuration_of_step_becomes_a_recipe(ranvier: Ranvier, tmp_path: Path) -> None:
    file = tmp_path / "mnist.yml"
    file.write_text(
        "{dataset: mnist, num_classes: 10, img_size: 28, in_channels: 1, model: spikformer_cifar, step: 2, epochs: 3, "
        "batch_size: 8, embed_dim: 32, num_heads: 2, depths: 1, node_type: PLIFNode, output: /x}"
    )
    out = tmp_path / "recipe.yaml"
    said = ranvier("bench", "--import-step", file, "--out", out)
    assert said.code == 0 and f"ranvier train {out}" in said.out and "test split" in said.err
    assert "type: plif" in out.read_text() and "name: mnist" in out.read_text()
    told = json.loads(ranvier("bench", "--import-step", file, "--json").out)
    assert told["recipe"]["train"]["epochs"] == 3 and told["notes"]
    file.write_text("{dataset: mnist, modle: x}")
    wrong = ranvier("bench", "--import-step", file)
    assert wrong.code == 2 and wrong.err.count("\n") == 1
