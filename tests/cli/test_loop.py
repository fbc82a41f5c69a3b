"""`ranvier loop`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ranvier.cli import main


def test_run_replay_and_compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    small = ["worlds=2", "max_ticks=15"]
    assert main(["loop", "run", *small, "--out", str(out), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["summary"]["episodes"] == 2 and (out / "run.gif").exists()
    assert "data:image/gif" in (out / "index.html").read_text()
    assert main(["loop", "replay", str(out / "log.npz")]) == 0
    assert "identical: 15 ticks" in capsys.readouterr().out
    assert main(["loop", "run", "team", *small, "--live", "--no-animation", "--out", str(out)]) == 0
    assert "success" in capsys.readouterr().out
    variants = ["policy=full,max_ticks=15", "navigation,max_ticks=15"]
    assert main(["loop", "compare", *variants, "--worlds", "2", "--out", str(out)]) == 0
    assert "policy=full" in capsys.readouterr().out and "Loops compared" in (out / "index.html").read_text()


def test_errors_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["loop", "run", "polcy=full"]) == 2
    assert "policy" in capsys.readouterr().err
    assert main(["loop", "replay", str(tmp_path / "none.npz")]) == 3
    assert capsys.readouterr().err.startswith("error:")
