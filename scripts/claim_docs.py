"""Write the documentation's pages of claims from stored results: `python scripts/claim_docs.py [RESULT.json ...]`.

Results named on the command line (`runs/claims/NAME/quick/result.json`) are taken into `docs/assets/claims/`; then
every result there becomes `docs/claims/NAME.md` with its figures, and `docs/verdicts.md` lists them all.
"""

from __future__ import annotations

import html
import re
import shutil
import sys
from pathlib import Path

from ranvier.bench.claim_charts import STYLES, draw
from ranvier.bench.claim_pages import cell, machine_line
from ranvier.claims import ClaimResult, read_result

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / "docs" / "assets" / "claims"
PAGES = ROOT / "docs" / "claims"
COLOURS = ("#0b807a", "#c8701c", "#5a6fd6", "#b4488f", "#7f9020", "#77818d")
DASHES = ("", "5 3", "2 3", "8 3 2 3", "1 4", "12 4")


def style() -> str:
    """The report's style sheet for one figure; middle greys and colours that read on light and dark pages."""
    rules = [
        "text{fill:#808890;font:12px system-ui,sans-serif}.axis-title{fill:#808890}",
        ".grid{stroke:#80889040}.axis,.whisker{stroke:#808890}polyline{fill:none;stroke-width:2}",
    ]
    for index in range(STYLES):
        colour, dash = COLOURS[index], DASHES[index]
        rules.append(f".line-{index}{{stroke:{colour}" + (f";stroke-dasharray:{dash}" if dash else "") + "}")
        rules.append(f".area-{index}{{fill:{colour};opacity:.15}}.fill-{index}{{fill:{colour}}}")
        rules.append(f".mark-{index}{{fill:{colour};stroke:{colour}}}")
    return f"<style>{''.join(rules)}</style>"


def text(value: str) -> str:
    """Plain text inside Markdown: neither HTML nor table separators survive."""
    return re.sub(r"([|*_`\[\]])", r"\\\1", html.escape(value, quote=False))


def page(result: ClaimResult) -> str:
    """One claim as Markdown."""
    seeds = f"{len(result.seeds)} {'seed' if len(result.seeds) == 1 else 'seeds'}"
    lines = [
        f"# {text(result.title)}", "",
        f"**{result.verdict.capitalize()}** with {seeds}, scale `{result.scale}`; `{result.command}`"
        + ("" if result.complete else " (not all of its seeds: preliminary)"), "",
        f"**Paper.** {text(result.paper)}", "", f"**It states.** {text(result.statement)}", "",
        f"**We ask.** {text(result.question)}", "", f"**Data.** {text(result.data)}", "",
    ]  # fmt: skip
    if result.comment:
        lines += [f"**Comment.** {text(result.comment)}", ""]
    lines += ["## Rules", "", "| rule | outcome | figures |", "| --- | --- | --- |"]
    for finding in result.findings:
        aside = "" if finding.essential else " (does not decide)"
        lines.append(f"| {text(finding.rule)}{aside} | {finding.holds} | {text(finding.detail)} |")
    heads = [f"{text(m.description)}{f', {text(m.unit)}' if m.unit else ''}" for m in result.metrics]
    lines += ["", "## Results", "", f"| arm | {' | '.join(heads)} |", "| --- |" + " ---: |" * len(heads)]
    for arm in result.arms:
        figures = " | ".join(cell(arm, metric) for metric in result.metrics)
        lines.append(f"| {text(arm.name)}: {text(arm.description)} | {figures} |")
    lines += ["", f"Mean ± sample standard deviation over seeds {', '.join(map(str, result.seeds))}.", ""]
    for index, figure in enumerate(result.figures):
        lines += [
            f"## {text(figure.title)}",
            "",
            f"![{text(figure.title)}](../assets/claims/{result.name}-{index}.svg)",
            "",
        ]
        lines += [text(figure.caption), ""] if figure.caption else []
    lines += ["## Run", "", f"{result.wall_s / 60:.1f} minutes of trials, finished {result.finished}.", ""]
    lines += [f"- {text(machine_line(machine))}" for machine in result.machines]
    lines += [f"- {text(note)}" for note in result.notes]
    return "\n".join(lines) + "\n"


def main() -> None:
    KEPT.mkdir(parents=True, exist_ok=True)
    PAGES.mkdir(exist_ok=True)
    for given in sys.argv[1:]:
        shutil.copyfile(given, KEPT / f"{read_result(given).name}.json")
    results = [read_result(path) for path in sorted(KEPT.glob("*.json"))]
    rows = [
        "# Verdicts",
        "",
        "Made by `python scripts/claim_docs.py` from stored runs; see [claims](claims.md) for the rules.",
        "",
    ]
    rows += ["| claim | system | verdict | seeds | minutes |", "| --- | --- | --- | ---: | ---: |"]
    for result in results:
        (PAGES / f"{result.name}.md").write_text(page(result), encoding="utf-8")
        for index, figure in enumerate(result.figures):
            svg = (
                str(draw(figure))
                .replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
                .replace(">", f">{style()}", 1)
            )
            (KEPT / f"{result.name}-{index}.svg").write_text(svg + "\n", encoding="utf-8")
        rows.append(
            f"| [{text(result.title)}](claims/{result.name}.md) | {text(result.system)} | {result.verdict} "
            f"| {len(result.seeds)} | {result.wall_s / 60:.1f} |"
        )
    (ROOT / "docs" / "verdicts.md").write_text("\n".join(rows) + "\n", encoding="utf-8")
    print(f"{len(results)} claims in docs/verdicts.md")


if __name__ == "__main__":
    main()
