from __future__ import annotations

import io
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ranvier.bench import charts, manifest, quantity, report
from ranvier.bench.picture import data_uri, from_tensor
from ranvier.bench.result import Failure, Raster, Result, SampleImage, write_json, write_result
from ranvier.bench.summary import summarise
from ranvier.bench.table import leaderboard_table
from ranvier.errors import DataError, ShapeError

HOSTILE = "<script>document.title='pwned'</script>\"'><img src=x onerror=alert(1)>"


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.opened: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.opened.append((tag, dict(attrs)))


def parsed(html: str) -> list[tuple[str, dict[str, str | None]]]:
    reader = Tags()
    reader.feed(html)
    return reader.opened


def test_site_links_only_to_itself(site: Path) -> None:
    index = report.build(site)
    pages = [index, *(site / "models").glob("*.html")]
    pages.append(site / "pareto.html")
    assert len(pages) == 8
    for page in pages:
        html = page.read_text()
        for tag, attributes in parsed(html):
            for name in ("src", "href"):
                target = attributes.get(name)
                if target is None or target.startswith(("#", "data:image/png;base64,")):
                    continue
                assert tag == "a" and (page.parent / target).resolve().is_file(), target
        assert "http://" not in html and "https://" not in html and "{{" not in html


def test_leaderboard_shows_mean_spread_and_seeds(site: Path) -> None:
    html = report.build(site).read_text()
    (board,) = summarise(report.load(site)[0])
    for row in board.rows:
        assert quantity.shown(row.kind, row.score) in html and row.label in html
    assert html.count("<circle") == 2 * len(board.rows)  # once in the wide plot, once in the narrow one
    assert html.index('class="sortable leaderboard"') < html.index('class="sortable paper"')
    leaderboard = html[html.index('class="sortable leaderboard"') : html.index('class="sortable paper"')]
    assert "Paper estimate" not in leaderboard


def test_hostile_text_stays_text(synthetic: Callable[..., Result], tmp_path: Path) -> None:
    result = synthetic(HOSTILE)
    result.config["model"]["args"] = {HOSTILE: [HOSTILE]}
    result.notes, result.env.processor, result.model.violations = [HOSTILE], HOSTILE, [HOSTILE]
    result.rates[0].layer = HOSTILE
    assert result.sample is not None
    result.sample.rasters[0].layer = HOSTILE
    result.energy.as_built.assumptions = [HOSTILE]
    write_result(tmp_path / "results" / f"{result.run_id}.json", result)
    failure = Failure(run_id="x", created="", label=HOSTILE, task=HOSTILE, seed=0, error=HOSTILE)
    write_json(tmp_path / "errors" / "x.json", failure.model_dump(mode="json"))
    index = report.build(tmp_path)
    for page in (index, *(tmp_path / "models").glob("*.html")):
        html = page.read_text()
        tags = parsed(html)
        assert sum(tag == "script" for tag, _ in tags) == 1
        assert not any(name.startswith("on") for _, attributes in tags for name in attributes)
        assert all(str(a["src"]).startswith("data:") for tag, a in tags if tag == "img")
        assert "document.title=&#39;pwned&#39;" in html or "document.title='pwned'" not in html
        assert "script-src 'sha256-" in html.replace("&#39;", "'")


def test_older_configurations_are_left_aside(site: Path) -> None:
    results, _, _ = report.load(site)
    keep = [result.run_id for result in results if result.model.label == "PLIF MLP"]
    asked = manifest.Manifest(name="x", version=1, title="Only one", budget_minutes=1, source="x", run_ids=keep)
    report.build(site)
    write_json(site / manifest.MANIFEST, asked.model_dump())
    html = report.build(site).read_text()
    assert "Only one" in html and "Spikformer" not in html and "10 result files" in html
    assert len(list((site / "models").glob("*.html"))) == 1


def test_a_folder_of_failures_still_has_a_report(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no results"):
        report.build(tmp_path)
    failure = Failure(run_id="x", created="", label="net", task="digits", seed=3, error="it broke")
    write_json(tmp_path / "errors" / "x.json", failure.model_dump(mode="json"))
    assert "it broke" in report.build(tmp_path).read_text()


def test_sparse_results_still_have_pages(synthetic: Callable[..., Result], tmp_path: Path) -> None:
    result = synthetic("bare")
    bare = result.model_copy(update={"curve": [], "rates": [], "spikes": {}, "latency": [], "sample": None})
    bare.energy.paper = None
    bare.energy.as_built.total_pj = 0
    write_result(tmp_path / "results" / f"{result.run_id}.json", bare)
    html = report.build(tmp_path).read_text()
    assert "bare" in html and "Paper estimate" not in html
    (tmp_path / manifest.MANIFEST).write_text("{")
    with pytest.raises(DataError, match="manifest"):
        report.build(tmp_path)


def test_raster_draws_every_spike() -> None:
    drawn = charts.raster(Raster(layer="a", neurons=9, steps=["0102", "1000"]))
    assert len(re.findall("M", drawn)) == 3 and drawn.count('class="spike many"') == 1


def test_single_points_and_flat_curves_draw(synthetic: Callable[..., Result]) -> None:
    result = synthetic("flat")
    result.curve = result.curve[:1]
    result.accuracy_by_step = [0.5]
    for chart in (charts.accuracy_curves([result]), charts.loss_curves([result]), charts.step_curve([result])):
        assert chart is not None and "nan" not in chart and "inf" not in chart
    plot = charts.pareto(summarise([result])[0].rows)
    assert plot is not None and "nan" not in plot


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0 J"), (4.6, "4.60 pJ"), (999.96, "1.00 nJ"), (1.5e6, "1.50 µJ"), (2e12, "2.00 J")]
)
def test_energy_units(value: float, text: str) -> None:
    assert quantity.energy(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.5, "0.500 s"), (59.97, "60.0 s"), (65, "1 min 05 s"), (7800, "2 h 10 min")]
)
def test_seconds(value: float, text: str) -> None:
    assert quantity.seconds(value) == text


def test_one_unit_a_column() -> None:
    column = quantity.Column.of([8e5, 4e6, None, 2.6e7], "J", 1e-12)
    assert column.unit == "µJ"
    assert [column.text(v) for v in (8e5, 4e6, 2.6e7, 0, None)] == ["0.800", "4.00", "26.0", "0", "–"]
    assert quantity.Column.of([]).unit == ""


def test_picture_keeps_pixels_and_bounds_the_size() -> None:
    import torch

    small = from_tensor(torch.tensor([[[0.0, 1.0], [0.5, 2.0]]]))
    assert (small.width, small.height, small.channels, small.pixels) == (2, 2, 1, "AP+A/w==")
    assert data_uri(small).startswith("data:image/png;base64,iVBOR")
    large = from_tensor(torch.rand(3, 224, 112))
    assert (large.height, large.width, large.channels) == (64, 32, 3)
    assert from_tensor(torch.zeros(5, 2, 34, 34)).channels == 1
    with pytest.raises(ShapeError):
        from_tensor(torch.zeros(3))
    with pytest.raises(DataError):
        data_uri(SampleImage(width=3, height=3, channels=1, pixels="AP+A/w=="))


@pytest.mark.parametrize("width", [80, 120])
def test_terminal_leaderboard(site: Path, width: int) -> None:
    from rich.console import Console

    console = Console(width=width, record=True, file=io.StringIO())
    results, _, _ = report.load(site)
    results[0].model.label = "[red]not markup"
    console.print(leaderboard_table(results))
    text = console.export_text()
    assert "train" in text and "energy" in text and "…" not in text and "QKFormer 2-64" in text and "[red]not" in text
