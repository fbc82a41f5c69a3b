"""The Python blocks of the README and the docs run, page by page and in order, as a reader would run them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from tests.compat import version
from tests.warm import with_trainer

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NOTEBOOKS = ROOT / "docs" / "notebooks"  # written from notebooks, which tests/test_examples.py runs
WITH_CODE = [page for page in PAGES if page.parent != NOTEBOOKS and BLOCK.search(page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_python_blocks_run(page: Path, tmp_path: Path) -> None:
    """In a process of its own, because pages register neurons and models."""
    if page.name == "exchange.md" and version(torch.__version__) < (2, 7):
        pytest.skip("writes ONNX files, which the exporter of PyTorch 2.6 cannot for batch norms")
    text = page.read_text(encoding="utf-8")
    script = ""
    for match in BLOCK.finditer(text):  # padded, so that a traceback has the line numbers of the page
        script += "\n" * (text[: match.start(1)].count("\n") - script.count("\n")) + match[1]
    code = f"exec(compile({script!r}, {str(page)!r}, 'exec'), {{'__name__': '__main__'}})"
    result = with_trainer().run(code, cwd=tmp_path)
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


def test_every_benchmark_is_on_the_performance_page() -> None:
    source = (ROOT / "benchmarks" / "__main__.py").read_text(encoding="utf-8")
    names = re.findall(r'^    "(\w+)",$', source, re.MULTILINE)
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert len(names) > 10
    for name in names:
        assert f"`python -m benchmarks {name}`" in page
    for stored in (ROOT / "benchmarks" / "results").glob("*.json"):
        assert f"`{stored.name}`" in page


def test_the_architecture_page_has_every_room() -> None:
    """And each file of the ground floor; a room that is gone is gone from the page."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = page[page.index("| room |") : page.index("## Contracts")]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`([\w.]+/?)`", row)}
    package = ROOT / "src" / "ranvier"
    rooms = {f"{path.name}/" for path in package.iterdir() if path.is_dir() and path.name != "__pycache__"}
    floor = {path.name for path in package.glob("*.py") if not path.name.startswith("__")}
    assert named == rooms | floor
