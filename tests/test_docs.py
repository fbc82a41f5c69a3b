"""The Python blocks of the README and the docs run, page by page and in order, as a reader would run them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
WITH_CODE = [page for page in PAGES if BLOCK.search(page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_python_blocks_run(page: Path, tmp_path: Path) -> None:
    """In a process of its own, because pages register neurons and models."""
    text = page.read_text(encoding="utf-8")
    script = ""
    for match in BLOCK.finditer(text):  # padded, so that a traceback has the line numbers of the page
        script += "\n" * (text[: match.start(1)].count("\n") - script.count("\n")) + match[1]
    code = f"exec(compile({script!r}, {str(page)!r}, 'exec'), {{'__name__': '__main__'}})"
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_readme_leads_with_the_two_commands() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "make demo" in readme
    assert "make test" in readme
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", readme):
        assert (ROOT / target).exists(), f"README links to {target}, which does not exist"


def test_the_verbs_are_documented() -> None:
    from ranvier.cli.app import VERBS

    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    for verb in VERBS:
        assert f"ranvier {verb}" in page
