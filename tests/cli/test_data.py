from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Ranvier = Callable[..., Any]


def test_list_says_what_is_here(ranvier: Ranvier, tmp_path: Path) -> None:
    infos = {i["name"]: i for i in json.loads(ranvier("data", "--data-root", tmp_path, "--json").out)}
    assert infos["digits"]["available"] is True
    assert infos["mnist"]["available"] is False
    assert "mnist" in ranvier("data", "--data-root", tmp_path).out


def test_one_data_set_is_read_and_described(ranvier: Ranvier) -> None:
    facts = json.loads(ranvier("data", "digits", "train_size=100", "--json").out)
    assert facts["train"] == 100
    assert facts["input_shape"] == [1, 8, 8]
    assert len(facts["classes"]) == 10
    assert "1, 8, 8" in ranvier("data", "digits").out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["digitz"], 2, "did you mean 'digits'?"),
        (["digits", "train_sise=3"], 2, "train_size"),
        (["digits", "T"], 2, "expected KEY=VALUE"),
        (["build"], 2, "can be computed: fsdd-spikes"),
        (["build", "digits"], 2, "those that are: fsdd-spikes"),
        (["build", "fsdd-spikes", "job=1", "--data-root", "."], 2, "did you mean 'jobs'?"),
        (["build", "fsdd-spikes", "--data-root", "."], 3, "'fsdd' is not in"),
        (["mnist", "--data-root", "/nowhere/at/all"], 3, "does not exist"),
    ],
)
def test_errors(arguments: list[str], code: int, said: str, ranvier: Ranvier) -> None:
    outcome = ranvier("data", *arguments)
    assert outcome.code == code
    assert said in outcome.err
    assert outcome.out == ""


def test_a_data_set_is_built_once(ranvier: Ranvier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np
    import soundfile

    monkeypatch.setenv("RANVIER_CACHE", str(tmp_path / "cache"))
    (tmp_path / "fsdd").mkdir()
    for take in (0, 9):
        soundfile.write(tmp_path / f"fsdd/3_anna_{take}.wav", np.random.default_rng(take).normal(size=900) * 0.1, 8000)
    outcome = ranvier("data", "build", "fsdd-spikes", "jobs=1", "--data-root", tmp_path, "--json")
    folder = Path(json.loads(outcome.out)["path"])
    assert (folder / "fsdd_spikes_train.h5").is_file() and (folder / "fsdd_spikes_test.h5").is_file()
    assert str(folder) in ranvier("data", "build", "fsdd-spikes", "--data-root", tmp_path).out
    facts = json.loads(ranvier("data", "fsdd-spikes", "--data-root", tmp_path, "--json").out)
    assert facts["input_shape"] == [100, 140] and facts["kind"] == "sequence" and facts["validation"] is None
