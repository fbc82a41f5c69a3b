"""`ranvier train` and `ranvier eval` on the real digits, in as few steps as possible."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.warm import module, with_trainer

Ranvier = Callable[..., Any]
QUICK = ["digits_mlp", "train.epochs=1", "data.limit_train=128", "data.limit_test=50"]


def test_train_then_evaluate(ranvier: Ranvier, tmp_path: Path) -> None:
    outcome = ranvier("train", *QUICK, "--out", tmp_path / "run", "--json")
    assert outcome.code == 0, outcome.err
    result = json.loads(outcome.out)
    assert result["epochs"] == 1
    assert result["out"] == str(tmp_path / "run")
    again = ranvier("train", *QUICK, "--out", tmp_path / "run")
    assert f"{result['test']['accuracy']:.2%} of 50" in again.out
    evaluation = json.loads(ranvier("eval", tmp_path / "run", "--json").out)
    assert evaluation["accuracy"] == result["test"]["accuracy"]
    assert evaluation["n"] == 50
    assert len(evaluation["accuracy_by_step"]) > 1
    shown = ranvier("eval", tmp_path / "run")
    assert f"{evaluation['accuracy']:.2%} of 50" in shown.out


def test_print_config_is_the_resolved_recipe_and_trains_nothing(ranvier: Ranvier, tmp_path: Path) -> None:
    out = tmp_path / "run"
    text = ranvier("train", "digits_mlp", "train.lr=3e-3", "model.args.T=2", "--out", out, "--print-config").out
    config = yaml.safe_load(text)
    assert config["train"]["lr"] == 0.003
    assert config["model"]["args"]["T"] == 2
    assert not out.exists()
    (tmp_path / "again.yaml").write_text(text)
    assert ranvier("train", tmp_path / "again.yaml", "--print-config").out == text
    assert json.loads(ranvier("train", tmp_path / "again.yaml", "--print-config", "--json").out) == config


def test_list(ranvier: Ranvier) -> None:
    assert "digits_mlp" in ranvier("train", "--list").out.splitlines()
    assert "digits_mlp" in json.loads(ranvier("train", "--list", "--json").out)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "name a recipe"),
        (["digits_mpl"], "did you mean 'digits_mlp'?"),
        (["nowhere.yaml"], "nowhere.yaml"),
        (["digits_mlp", "train.epocs=3"], "did you mean 'train.epochs'?"),
        (["digits_mlp", "train.epochs=many"], "train.epochs"),
        (["digits_mlp", "train.epochs"], "KEY=VALUE"),
    ],
)
def test_wrong_configuration_is_one_line(arguments: list[str], said: str, ranvier: Ranvier, tmp_path: Path) -> None:
    outcome = ranvier("train", *arguments, "--out", tmp_path / "run")
    assert outcome.code == 2
    assert said in outcome.err
    assert outcome.err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_evaluating_what_is_no_run(ranvier: Ranvier, tmp_path: Path) -> None:
    outcome = ranvier("eval", tmp_path)
    assert outcome.code == 1
    assert "not the folder of a run" in outcome.err


@pytest.mark.slow
def test_ctrl_c_leaves_a_run_that_the_same_command_continues(tmp_path: Path) -> None:
    arguments = ["digits_mlp", "train.epochs=500", "data.limit_train=64", "data.limit_test=20", "log.every=1"]
    command = [module("ranvier"), "train", *arguments, "--out", tmp_path / "run"]
    process = with_trainer().start(*command)
    metrics = tmp_path / "run" / "metrics.jsonl"
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None:
        if metrics.exists() and metrics.stat().st_size > 500:
            break
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    status, (_, err) = process.wait(90), process.output()
    assert status == 130, err
    assert "Traceback" not in err
    assert "to continue: ranvier train digits_mlp" in err
    before = metrics.read_text().splitlines()
    process = with_trainer().start(*command)
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None:
        if len(metrics.read_text().splitlines()) > len(before) + 2:
            break
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    status, (_, err) = process.wait(90), process.output()
    assert status == 130, err
    after = metrics.read_text().splitlines()
    assert len(after) > len(before)
    steps = [json.loads(line).get("step") for line in after]
    assert steps == sorted(steps)
