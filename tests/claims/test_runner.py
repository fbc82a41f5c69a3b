"""Running, keeping, resuming."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ranvier.claims import Claim, Outcome, Trial, TrialError, read_result, run
from ranvier.claims.runner import load_table
from ranvier.errors import ArgumentError, DataError, UnknownNameError

Make = Callable[..., Claim]


def test_a_run_is_stored_and_judged(toy_claim: Make, tmp_path: Path) -> None:
    result = run(toy_claim(), tmp_path)
    assert result.verdict == "reproduced"
    assert result.complete and result.seeds == [0, 1, 2]
    assert result == read_result(tmp_path / "toy_levels/quick/result.json")
    assert result.arms[2].values["score"] == pytest.approx([2.0, 2.01, 2.02])
    assert len(list((tmp_path / "toy_levels/quick/trials").iterdir())) == 9
    table = load_table(toy_claim(), "quick", tmp_path)
    assert [(x, y.mean) for x, y in table.curve("path", "low")] == [
        (1.0, pytest.approx(0.01)),
        (2.0, pytest.approx(1.01)),
    ]


def counted(toy_claim: Make, calls: list[tuple[str, int]], **changes: object) -> Claim:
    plain = toy_claim()

    def count(trial: Trial) -> Outcome:
        assert trial.arm is not None
        calls.append((trial.arm.name, trial.seed))
        return plain.run(trial)  # pyright: ignore[reportReturnType]

    return toy_claim(run=count, **changes)


def test_finished_trials_are_not_run_again(toy_claim: Make, tmp_path: Path) -> None:
    calls: list[tuple[str, int]] = []
    run(counted(toy_claim, calls), tmp_path)
    assert len(calls) == 9
    trials = tmp_path / "toy_levels/quick/trials"
    (trials / "low-1.json").write_text("{")  # damaged: run again
    (trials / "high-2.json").unlink()
    run(counted(toy_claim, calls), tmp_path)
    assert calls[9:] == [("low", 1), ("high", 2)]
    run(counted(toy_claim, calls, version=2), tmp_path)  # another meaning: all of them
    assert len(calls) == 20


def test_what_was_finished_survives_a_failure(toy_claim: Make, tmp_path: Path) -> None:
    plain = toy_claim()

    def broken(trial: Trial) -> Outcome:
        assert trial.arm is not None
        if trial.arm.name == "high":
            raise DataError("no such file")
        return plain.run(trial)  # pyright: ignore[reportReturnType]

    with pytest.raises(TrialError, match=r"high, seed 0: no such file"):
        run(toy_claim(run=broken), tmp_path)
    assert {p.name for p in (tmp_path / "toy_levels/quick/trials").iterdir()} == {"low-0.json", "middle-0.json"}
    assert not (tmp_path / "toy_levels/quick/result.json").exists()


def test_a_joint_claim_gives_all_arms_at_once(toy_claim: Make, tmp_path: Path) -> None:
    from tests.claims.conftest import joint_run

    result = run(toy_claim(run=joint_run, joint=True), tmp_path, seeds=(4, 5))
    assert result.arms[0].values["cost"] == [5.0, 6.0]
    assert not result.complete
    assert result.verdict == "partly reproduced"  # the cost is above its bound


def test_trials_are_seeded(toy_claim: Make, tmp_path: Path) -> None:
    def draw(trial: Trial) -> Outcome:
        return Outcome({"score": float(torch.rand(())), "cost": 2.0})

    one, two = (run(toy_claim(run=draw), tmp_path / name, seeds=(3, 1)) for name in ("a", "b"))
    assert one.arms[0].values == two.arms[0].values
    assert one.arms[0].values["score"][0] != one.arms[0].values["score"][1]


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (Outcome({"score": 1.0}), "expected the metrics"),
        (Outcome({"score": float("nan"), "cost": 1.0}), "score is nan"),
        ({"low": Outcome({"score": 1.0, "cost": 1.0})}, None),
        ({"other": Outcome({"score": 1.0, "cost": 1.0})}, "expected outcomes of"),
    ],
)
def test_outcomes_are_checked(toy_claim: Make, tmp_path: Path, outcome: object, said: str | None) -> None:
    claim = toy_claim(run=lambda trial: outcome)
    with pytest.raises(TrialError, match=said or "middle"):  # the third is fine for the arm `low` only
        run(claim, tmp_path)


def test_bad_arguments(toy_claim: Make, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="unknown claim 'nothing'"):
        run("nothing", tmp_path)
    with pytest.raises(ArgumentError, match="no scale 'ful'; did you mean 'full'"):
        run(toy_claim(), tmp_path, scale="ful")
    with pytest.raises(ArgumentError, match="seeds: expected distinct"):
        run(toy_claim(), tmp_path, seeds=(1, 1))
    with pytest.raises(ArgumentError, match="workers"):
        run(toy_claim(), tmp_path, workers=0)
    with pytest.raises(ArgumentError, match="not in the registry"):
        run(toy_claim(), tmp_path, workers=2)
    with pytest.raises(ArgumentError, match="quick"):
        toy_claim(scales={})


def test_a_damaged_result_is_named(toy_claim: Make, tmp_path: Path) -> None:
    run(toy_claim(), tmp_path)
    path = tmp_path / "toy_levels/quick/result.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document | {"verdict": "surely"}))
    with pytest.raises(DataError, match=r"verdict"):
        read_result(path)
