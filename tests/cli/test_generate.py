from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from ranvier.cli import main
from ranvier.train import fit, parse_recipe


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    (folder / "a.txt").write_text("hello world, " * 80)
    recipe: dict[str, Any] = {
        "name": "text",
        "data": {"name": "text", "batch_size": 8, "options": {"path": str(folder / "a.txt"), "length": 16}},
        "model": {"name": "spike_gpt_41m", "args": {"n_layer": 1, "n_embd": 8}},
        "train": {"epochs": 1, "threads": 1, "accelerator": "cpu"},
    }
    fit(parse_recipe(recipe), folder / "run", progress=False)
    return folder / "run"


def test_text_comes_out(run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["generate", str(run), "--prompt", "hello", "--tokens", "12", "--seed", "3"]
    assert main(arguments) == 0
    first = capsys.readouterr().out
    assert first.startswith("hello") and first.endswith("\n")
    assert main(arguments) == 0 and capsys.readouterr().out == first
    assert main([*arguments, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["prompt"] + document["text"] + "\n" == first and document["tokens_per_second"] > 0
    monkeypatch.setattr("sys.stdin", io.StringIO("hello"))
    assert main(["generate", str(run), "--prompt", "-", "--tokens", "12", "--seed", "3"]) == 0
    assert capsys.readouterr().out == first


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--prompt", ""], "empty text"), (["--top-p", "0"], "top_p"), (["--temperature", "-1"], "temperature"),
     (["--ban", "999"], "banned")],
)  # fmt: skip
def test_bad_options(run: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", str(run), *options]) == 2
    assert message in capsys.readouterr().err


def test_text_is_evaluated(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(run), "--context", "8", "--stride", "4"]) == 0
    shown = capsys.readouterr().out
    assert "windows of 8 every 4" in shown and "bits a byte" in shown and "perplexity" in shown
    assert main(["eval", str(run), "--stream", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["context"] is None and document["bits_per_byte"] == document["bits_per_token"] < 8.2
    assert main(["eval", str(run)]) == 0 and "loss" in capsys.readouterr().out
    assert main(["eval", str(run), "--split", "best"]) == 2


def test_text_is_audited(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", str(run)]) == 0
    assert "not spike-driven" in capsys.readouterr().out
    assert main(["energy", "spike_gpt_41m", "n_layer=1", "n_embd=8", "--json"]) == 0
    assert "random texts" in json.loads(capsys.readouterr().out)["input"]


def test_not_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", str(tmp_path)]) == 1
    assert "not the folder of a run" in capsys.readouterr().err
