"""Pages of claims."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.claims.conftest import toy

from ranvier.bench import claim_charts, claim_pages
from ranvier.claims import run
from ranvier.claims.record import FigureRecord, LineRecord
from ranvier.errors import DataError


def test_pages_show_everything_and_escape_it(tmp_path: Path) -> None:
    run(toy(comment="<img src=x onerror=alert(1)>"), tmp_path)
    index = claim_pages.build(tmp_path)
    page = (tmp_path / "toy_levels/quick/index.html").read_text()
    assert "reproduced" in page and "Nobody (2020)" in page and "score: low &lt; middle &lt; high" in page
    for hostile in ("<img", "Levels <script>", "<b>note"):
        assert hostile not in page
    assert "&lt;img src=x" in page
    assert 'href="toy_levels/quick/index.html"' in index.read_text()
    assert re.search(r"<svg[^>]*role=\"img\"", page)


def test_no_results_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no results of claims"):
        claim_pages.build(tmp_path)


@pytest.mark.parametrize("kind", ["lines", "bars", "scatter"])
@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("points", [[(0.0, 0.0, 0.0)], [(1.0, 5.0, 9.0), (10.0, -2.0, 0.1)], [(3.0, 1e-6, 0.0)]])
def test_figures_stay_inside_whatever_the_numbers(
    kind: str, log: bool, points: list[tuple[float, float, float]]
) -> None:
    figure = FigureRecord(
        title="t", x="x", y="y", kind=kind, log_x=log, log_y=log, caption="",  # pyright: ignore[reportArgumentType]
        lines=[LineRecord(label=label, points=points) for label in ("a long name of an arm that goes on", "b")],
    )  # fmt: skip
    svg = str(claim_charts.draw(figure, 360))
    assert "nan" not in svg and "inf" not in svg
    for x in re.findall(r'(?:cx|x1|x2)="([-0-9.]+)"', svg):
        assert -1 <= float(x) <= 361
