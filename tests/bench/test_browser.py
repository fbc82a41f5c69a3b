"""The report in headless Chromium, without a network."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ranvier.bench import report
from ranvier.bench.result import Result, write_json, write_result

CHROMIUM = os.environ.get("RANVIER_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
HOSTILE = "<script>document.title='pwned'</script>\"><img src=x onerror=\"document.title='pwned'\">"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser: Any, site: Path) -> Iterator[Callable[..., Any]]:
    """Opens a page of the site; every message of the console and every request beyond the folder fails the test."""
    contexts: list[Any] = []
    complaints: list[str] = []

    def visit(path: str = "index.html", width: int = 1280, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 844}, offline=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: _local(request.url, site, complaints))
        page.goto((site / path).as_uri())
        return page

    report.build(site)
    yield visit
    for context in contexts:
        context.close()
    assert complaints == []


def _local(url: str, site: Path, complaints: list[str]) -> None:
    if not url.startswith((site.as_uri(), "data:")):
        complaints.append(f"request to {url}")


def names(page: Any) -> list[str]:
    return page.locator("table.leaderboard tbody tr:visible th").all_inner_texts()


def model_page(site: Path) -> str:
    return next(f"models/{path.name}" for path in (site / "models").glob("*spikformer*.html"))


def test_loads_and_leads_to_every_model(opened: Callable[..., Any]) -> None:
    page = opened()
    assert page.title() == "Benchmark · Ranvier"
    assert len(names(page)) == 6
    best = names(page)[0]
    page.locator("table.leaderboard tbody a").first.click()
    assert page.locator("h1").inner_text() == best
    assert page.locator("svg.chart:visible").count() >= 3 + 4
    assert page.evaluate("document.querySelector('.sample img').naturalWidth") == 2


def test_other_costs_have_a_page(opened: Callable[..., Any]) -> None:
    page = opened()
    page.get_by_role("link", name="Accuracy against every other cost").click()
    assert page.locator("h1").inner_text() == "Accuracy against cost"
    assert page.locator("figure h3").all_inner_texts() == [
        "Energy of one inference, as built", "Synaptic operations of one sample",
        "Energy, recipe of publications: 4.6 pJ a MAC, 0.9 pJ an AC", "Energy, Lemaire et al. 2022, every access",
    ]  # fmt: skip
    page.locator("svg.chart:visible a").first.click()
    assert page.locator("table.energy-models tbody th").all_inner_texts() == ["paper", "lemaire2022"]
    assert "Effective_ACs" in page.locator("table.neurobench").inner_text()


def test_reported_figures_stand_apart(opened: Callable[..., Any], site: Path, synthetic: Callable[..., Result]) -> None:
    record = {"model": "Printed <net>", "task": "synthetic", "value": 0.99, "source": "Nobody, 2020"}
    write_json(site / "reported" / "one.json", record)
    write_json(site / "reported" / "two.json", {**record, "model": "Pretrained", "provenance": "transfer"})
    transferred = synthetic("Fine-tuned", provenance="transfer")
    write_result(site / "results" / f"{transferred.run_id}.json", transferred)
    report.build(site)
    page = opened()
    assert page.locator("table.reported tbody th").all_inner_texts() == ["Printed <net>", "Pretrained"]
    boards = page.locator("section.board")
    assert boards.count() == 2 and "transfer" in boards.nth(1).locator("h2").inner_text()
    measured = page.locator("section.board table.leaderboard")
    assert "Printed" not in measured.first.inner_text() and "Fine-tuned" not in measured.first.inner_text()
    assert "Fine-tuned" in measured.nth(1).inner_text() and page.locator("#standings").count() == 0


def test_sorting_and_filter(opened: Callable[..., Any]) -> None:
    page = opened()
    energy = page.locator("table.leaderboard th button", has_text="Energy")
    energy.click()
    ascending = names(page)
    assert ascending[0] in ("IF MLP, one seed", "PLIF MLP") and ascending[-1] == "Spikformer 2-64"
    assert page.locator("table.leaderboard th[aria-sort]").get_attribute("aria-sort") == "ascending"
    energy.click()
    assert names(page) == ascending[::-1]
    page.locator("table.leaderboard th button", has_text="Model").focus()
    page.keyboard.press("Enter")
    assert names(page) == sorted(ascending, key=str.lower)
    page.get_by_role("searchbox").fill("mlp")
    assert sorted(names(page)) == ["IF MLP, one seed", "PLIF MLP"]
    page.get_by_role("searchbox").fill("")
    page.get_by_role("checkbox").check()
    assert "Spikformer 2-64" not in names(page) and len(names(page)) == 4
    page.get_by_role("searchbox").fill("no such net")
    assert page.locator(".board .empty").is_visible()


def test_nothing_overflows(opened: Callable[..., Any], site: Path) -> None:
    texts = "[...document.querySelectorAll('.chart text')].filter(t => t.getBoundingClientRect().width)"
    for path in ("index.html", "pareto.html", model_page(site)):
        page = opened(path, width=1280)
        for width in (1280, 768, 390, 320):
            page.set_viewport_size({"width": width, "height": 844})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            smallest = page.evaluate(f"Math.min(...{texts}.map(t => t.getBoundingClientRect().height))")
            assert smallest >= (8 if width < 390 else 9)


def test_dark_by_preference_and_by_button(opened: Callable[..., Any], site: Path) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    light, dark = opened(color_scheme="light"), opened(color_scheme="dark")
    white, black = light.evaluate(ground), dark.evaluate(ground)
    assert white != black
    light.get_by_role("button", name="Switch to dark colours").click()
    assert light.evaluate(ground) == black
    light.reload()
    assert light.evaluate(ground) == black  # remembered
    dark.get_by_role("button", name="Switch to light colours").click()
    assert dark.evaluate(ground) == white


def test_text_has_contrast(opened: Callable[..., Any], site: Path) -> None:
    measure = """() => {
      const channel = c => (c /= 255) <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4;
      const parse = css => css.match(/[\\d.]+/g).slice(0, 3).map(Number);
      const luminance = ([r, g, b]) => .2126 * channel(r) + .7152 * channel(g) + .0722 * channel(b);
      const ground = luminance(parse(getComputedStyle(document.body).backgroundColor));
      const low = [];
      for (const node of document.querySelectorAll('main *, footer, header *')) {
        if (![...node.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())) continue;
        const style = getComputedStyle(node);
        const ink = luminance(parse(node instanceof SVGElement ? style.fill : style.color));
        const ratio = (Math.max(ink, ground) + .05) / (Math.min(ink, ground) + .05);
        if (ratio < 4.5 && !['title', 'STYLE', 'SCRIPT'].includes(node.tagName)) low.push(node.outerHTML.slice(0, 90));
      }
      return low; }"""
    ground = "getComputedStyle(document.body).backgroundColor"
    for path in ("index.html", "pareto.html", model_page(site)):
        page = opened(path, color_scheme="light")
        light = page.evaluate(ground)
        assert page.evaluate(measure) == []
        page.emulate_media(color_scheme="dark")
        assert page.evaluate(ground) != light
        assert page.evaluate(measure) == []


def test_hostile_names_do_not_run(opened: Callable[..., Any], synthetic: Callable[..., Result], site: Path) -> None:
    result = synthetic(HOSTILE)
    result.config["model"]["args"] = {HOSTILE: HOSTILE}
    write_result(site / "results" / f"{result.run_id}.json", result)
    report.build(site)
    page = opened()
    assert page.title() == "Benchmark · Ranvier"
    link = page.locator("table.leaderboard a", has_text="pwned")
    assert link.inner_text() == HOSTILE
    link.click()
    assert page.locator("h1").inner_text() == HOSTILE
    assert page.title() != "pwned" and page.locator("main script, main img[src=x]").count() == 0


def test_an_injected_script_is_blocked_by_the_policy(browser: Any, site: Path) -> None:
    index = report.build(site)
    index.write_text(index.read_text().replace("<h1>", "<script>document.title='pwned'</script><h1>"))
    page = browser.new_context(offline=True).new_page()
    page.goto(index.as_uri())
    assert page.title() == "Benchmark · Ranvier"
    page.context.close()


def test_readable_without_script(opened: Callable[..., Any]) -> None:
    page = opened(java_script_enabled=False)
    assert len(names(page)) == 6 and not page.get_by_role("searchbox").is_visible()
