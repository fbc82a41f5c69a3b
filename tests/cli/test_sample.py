"""`ranvier sample` and `ranvier dc` on a denoiser of real digits, trained for a few steps."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Ranvier = Callable[..., Any]
TRAIN = [
    "digits_spiking_ddpm", "train.max_steps=6", "data.limit_train=128", "data.limit_test=20", "model.args.T=2",
    "model.args.channels=8", "data.validation=20",
]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from ranvier.cli import main

    folder = tmp_path_factory.mktemp("ddpm")
    assert main(["train", *TRAIN, "--out", str(folder)]) == 0
    return folder


def test_train_and_eval_show_a_loss(ranvier: Ranvier, run: Path) -> None:
    again = ranvier("train", *TRAIN, "--out", run)
    assert again.code == 0
    assert "test loss" in again.out
    shown = ranvier("eval", run)
    assert shown.code == 0
    assert "accuracy" not in shown.out
    assert json.loads(ranvier("eval", run, "--json").out)["accuracy"] is None


def test_sample_search_and_fit(ranvier: Ranvier, run: Path, tmp_path: Path) -> None:
    pytest.importorskip("PIL.Image")
    picture = tmp_path / "a.png"
    outcome = ranvier("sample", run, "--nfe", 3, "-n", 6, "--classes", "0,1", "--out", picture, "--json")
    assert outcome.code == 0, outcome.err
    facts = json.loads(outcome.out)
    assert (facts["nfe"], facts["T"], facts["sweeps"]) == (3, 2, 6)
    assert picture.read_bytes().startswith(b"\x89PNG")
    files = []
    for nfe in (3, 4):
        for cfg in (1, 2):
            files.append(tmp_path / f"ratios-{nfe}-{cfg}.json")
            found = ranvier(
                "dc", "search", run, "--nfe", nfe, "--cfg", cfg, "--noises", 2, "--reference-steps", 12,
                "--out", files[-1]
            )  # fmt: skip
            assert found.code == 0, found.err
            assert "without compensation" in found.out
    refined = ranvier(
        "dc", "search", run, "--nfe", 3, "--cfg", 1, "--noises", 2, "--reference-steps", 12, "--rounds", 1,
        "--out", tmp_path / "refined.json",
    )  # fmt: skip
    assert refined.code == 0, refined.err
    greedy, together = (json.loads(p.read_text())["found"] for p in (files[0], tmp_path / "refined.json"))
    assert together["rounds"] == 1 and together["error"] <= greedy["error"]
    assert ("no gain" in refined.out) == (together["error"] >= together["error_of_ones"])
    saved = tmp_path / "x.safetensors"
    used = ranvier("sample", run, "--nfe", 3, "-n", 2, "--cfg", 2, "--ratios", files[1], "--save", saved)
    assert used.code == 0, used.err
    assert (run / "samples.png").exists()
    assert saved.exists()
    fitted = ranvier("dc", "fit", *files, "--degrees", "1,1,1", "--out", tmp_path / "cpr.json")
    assert fitted.code == 0, fitted.err
    assert "4 files" in fitted.out
    assert ranvier("sample", run, "--nfe", 4, "-n", 2, "--cpr", tmp_path / "cpr.json", "--json").code == 0
    wrong = ranvier("sample", run, "--nfe", 5, "-n", 2, "--ratios", files[0])
    assert wrong.code == 2
    assert "NFE 3" in wrong.err


def test_refuses(ranvier: Ranvier, run: Path, tmp_path: Path) -> None:
    for arguments, said in (
        (["sample", run, "--nfe", 0], "function evaluations"), (["sample", run, "--classes", "a"], "classes"),
        (["sample", run, "--classes", 12], "0 .. 9"), (["sample", run, "--solver", "euler"], "solver"),
        (["sample", run, "--ratios", tmp_path / "no.json"], "no.json"), (["sample", tmp_path], "run"),
        (["dc", "search", run, "--corrector", "maybe"], "on, off or auto"),
        (["dc", "fit", tmp_path / "no.json"], "no.json"), (["dc", "fit", "x.json", "--degrees", "a"], "degrees"),
    ):  # fmt: skip
        outcome = ranvier(*arguments)
        assert outcome.code in (1, 2), arguments
        assert said in outcome.err, (arguments, outcome.err)
        assert "Traceback" not in outcome.err
