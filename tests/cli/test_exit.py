"""Early exit from the command line, and that the test set has no part in the choice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ranvier.bench import exit_pages, exit_records, exit_study
from ranvier.data import Samples
from ranvier.train import assemble, fit, parse_recipe

Ranvier = Callable[..., Any]


def recipe(**data: Any) -> dict[str, Any]:
    return {
        "name": "small", "data": {"name": "digits", "limit_train": 400, "limit_test": 60, "validation": 100, **data},
        "model": {"name": "spiking_mlp", "args": {"hidden": [24], "T": 5}},
        "train": {"epochs": 2, "lr": 0.01, "accelerator": "cpu"},
    }  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("runs") / "run"
    fit(parse_recipe(recipe()), folder, progress=False)
    return folder


class Sealed(Samples):
    """A test set that may not be looked at."""

    def __init__(self) -> None:
        object.__setattr__(self, "touched", 0)

    def __getattribute__(self, name: str) -> Any:
        if name in ("labels", "batch", "__len__", "time_first", "values"):
            raise AssertionError(f"the test set was asked for {name}")
        return super().__getattribute__(name)

    def __len__(self) -> int:
        raise AssertionError("the test set was asked for its length")

    def __getitem__(self, index: int) -> Any:
        raise AssertionError("the test set was asked for a sample")


def test_calibration_never_touches_the_test_set(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ranvier: Ranvier
) -> None:
    expected = exit_study.calibrate(trained, tmp_path / "open", criteria=("confidence", "entropy"), alpha="search")
    plain = assemble.data_room.load

    def sealed(*arguments: Any, **options: Any) -> Any:
        bundle = plain(*arguments, **options)
        object.__setattr__(bundle, "test", Sealed())
        return bundle

    monkeypatch.setattr(assemble.data_room, "load", sealed)
    outcome = ranvier("exit", "calibrate", trained, "--out", tmp_path / "sealed", "-c", "confidence", "-c", "entropy")
    assert outcome.code == 0
    assert exit_records.read_calibration(tmp_path / "sealed") == expected
    with pytest.raises(AssertionError, match="the test set was asked"):
        exit_study.evaluate(tmp_path / "sealed")


def test_calibration_and_training_share_no_sample(trained: Path, tmp_path: Path) -> None:
    found = exit_study.calibrate(trained, tmp_path)
    splits = assemble.load_splits(parse_recipe(recipe()))
    of = {name: set(exit_study.digests(*_all(part))) for name, part in (("train", splits.train), ("test", splits.test))}
    assert len(set(found.keys)) == found.samples == 100
    assert not set(found.keys) & of["train"] and not set(found.keys) & of["test"]


def _all(samples: Samples) -> tuple[torch.Tensor, bool]:
    return samples.batch(range(len(samples)))[0], samples.time_first


def test_the_whole_way(trained: Path, tmp_path: Path, ranvier: Ranvier) -> None:
    out = tmp_path / "exit"
    text = ranvier("exit", "calibrate", trained, "--out", out, "--criterion", "all").out
    assert "oracle" in text and "conformal" in text and "held out of training" in text
    outcome = ranvier("exit", "eval", out, "--time", "1,16", "--samples", 20, "--rounds", 1, "--json")
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)
    assert [row["name"] for row in found["rows"]] == list(exit_study.CRITERIA)
    assert found["shared"] == 0 and found["samples"] == 20
    for row in found["rows"]:
        assert sum(row["histogram"]) == 20 and 1 <= row["mean_steps"] <= 5
        assert row["accuracy"] <= found["oracle"]["accuracy"]
    for timing in found["timings"]:
        assert timing["same_decisions"] == 1.0 and timing["speedup"] > 0
        assert timing["mean_steps_computed"] >= timing["mean_steps"]
    refill = ranvier("exit", "eval", out, "--time", 8, "--samples", 30, "--rounds", 1, "--mode", "throughput")
    assert refill.code == 0 and "throughput" in refill.out and "faster than fixed" in refill.out
    alone = ranvier("exit", "eval", out, "--time", 1, "--samples", 10, "--rounds", 1, "--mode", "compiled", "--json")
    assert alone.code == 0, alone.err
    (timing,) = json.loads(alone.out)["timings"]
    assert timing["mode"] == "compiled" and timing["same_decisions"] >= 0.9  # a rounding may flip a spike in float32
    assert timing["mean_steps_computed"] == timing["mean_steps"]
    careful = exit_study.calibrate(trained, tmp_path / "careful", margin=1.0)
    assert (
        careful.margin == 1.0
        and careful.criteria[0].mean_steps >= json.loads((out / "exit.json").read_text())["criteria"][0]["mean_steps"]
    )
    again = ranvier("exit", "eval", out, "--split", "validation")
    assert "100 of these samples are in the calibration set" in again.out
    outcome = ranvier("exit", "plot", out)
    assert outcome.code == 0
    page = (out / "index.html").read_text()
    for words in ("The gap to the oracle", "When samples stop", "Accuracy and mean steps", "<svg"):
        assert words in page
    chosen, evaluated = exit_records.read_calibration(out), exit_records.read_evaluation(out)
    assert [f.kind for f in exit_pages.figures(chosen, evaluated)] == ["lines", "lines", "scatter"]
    (out / "eval.json").unlink()
    assert "The gap" not in exit_pages.write(out).read_text()


def test_a_learned_policy(trained: Path, tmp_path: Path, ranvier: Ranvier) -> None:
    out = tmp_path / "exit"
    outcome = ranvier(
        "exit", "calibrate", trained, "--out", out, "--criterion", "learned", "--tolerance", 0.05, "--json"
    )
    assert outcome.code == 0, outcome.err
    settings = json.loads(outcome.out)["criteria"][0]["settings"]
    assert settings["shape"] == [1, 8, 8] and settings["steps"] == 5 and settings["kept"] == 33
    assert (out / "policy.safetensors").exists()
    outcome = ranvier("exit", "eval", out, "--samples", 30, "--time", 8, "--rounds", 1, "--json")
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)
    assert found["timings"][0]["same_decisions"] == 1.0 and sum(found["rows"][0]["histogram"]) == 30
    assert ranvier("exit", "plot", out).code == 0
    (out / "policy.safetensors").unlink()
    outcome = ranvier("exit", "eval", out)
    assert outcome.code != 0 and "policy.safetensors" in outcome.err and outcome.err.count("\n") == 1


def test_mistakes_are_one_line(trained: Path, tmp_path: Path, ranvier: Ranvier) -> None:
    for arguments, words in (
        (("calibrate", trained, "--out", tmp_path, "-c", "hope"), "got hope"),
        (("calibrate", trained, "--out", tmp_path, "--alpha", "much"), "a number, search or fit"),
        (("calibrate", trained, "--out", tmp_path, "--samples", 5), "too few for 10 classes"),
        (("calibrate", trained, "--out", tmp_path, "--alpha", "0"), "alpha must be a number > 0"),
        (("eval", tmp_path / "nothing"), "cannot be read"),
        (("eval", tmp_path, "--time", "0"), "expected batch sizes"),
        (("eval", tmp_path, "--mode", "fast"), "throughput or compiled"),
    ):
        outcome = ranvier("exit", *arguments)
        assert outcome.code in (2, 3) and words in outcome.err and outcome.err.count("\n") == 1, (arguments, outcome)


def test_a_run_that_held_nothing_out(tmp_path: Path, ranvier: Ranvier) -> None:
    fit(parse_recipe(recipe(validation=0, limit_train=64)), tmp_path / "run", progress=False)
    outcome = ranvier("exit", "calibrate", tmp_path / "run", "--out", tmp_path / "exit")
    assert outcome.code == 2 and "held nothing out" in outcome.err
