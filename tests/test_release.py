"""The wheel as its first user meets it; minutes, and it fetches PyTorch, so it runs where RANVIER_TEST_WHEEL is set."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("RANVIER_TEST_WHEEL") != "1", reason="RANVIER_TEST_WHEEL=1 asks for it")
def test_the_wheel_works_where_nothing_else_is(tmp_path: Path) -> None:
    said = subprocess.run(
        [sys.executable, ROOT / "scripts" / "wheel_check.py", "--keep", tmp_path], capture_output=True, text=True
    )
    assert said.returncode == 0, said.stdout + said.stderr
    assert "everything ended as it should" in said.stdout


def test_the_changelog_knows_the_version() -> None:
    import tomllib

    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert version in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
