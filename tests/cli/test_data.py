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
        (["mnist", "--data-root", "/nowhere/at/all"], 3, "does not exist"),
    ],
)
def test_errors(arguments: list[str], code: int, said: str, ranvier: Ranvier) -> None:
    outcome = ranvier("data", *arguments)
    assert outcome.code == code
    assert said in outcome.err
    assert outcome.out == ""
