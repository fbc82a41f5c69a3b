"""`ranvier claims`: published statements as experiments."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ranvier.cli.exits import resumable, say
from ranvier.cli.options import AsJson
from ranvier.cli.output import print_json, print_table

claims = typer.Typer(no_args_is_help=True)
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder of results and report.")]
FOLDER = Path("runs/claims")


@claims.callback()
def about() -> None:
    """Test what papers claim: experiments with controls, seeds and rules of the verdict fixed beforehand.

    \b
    Examples:
      ranvier claims list
      ranvier claims run spam_quadratic
      ranvier claims report
    """


@claims.command("list")
def list_them(out: Out = FOLDER, as_json: AsJson = False) -> None:
    """Name every claim, and the verdict where it has been run.

    \b
    Examples:
      ranvier claims list
      ranvier claims list --json
    """
    from ranvier import claims as room

    entries: list[dict[str, object]] = []
    for name in room.list_claims():
        claim = room.get_claim(name)
        found = _verdict(out / name / "quick" / "result.json")
        entries.append(
            {
                "name": name, "title": claim.title, "system": claim.system, "paper": claim.paper,
                "statement": claim.statement, "data": claim.data, "arms": [arm.name for arm in claim.arms],
                "rules": [rule.text() for rule in claim.rules], "verdict": found,
                "scales": {
                    key: {"seeds": list(scale.seeds), "minutes": scale.minutes} for key, scale in claim.scales.items()
                },
            }
        )  # fmt: skip
    if as_json:
        print_json(entries)
        return
    minutes = {name: f"{room.get_claim(name).scales['quick'].minutes:g}" for name in room.list_claims()}
    rows = [(e["name"], e["title"], minutes[str(e["name"])], e["verdict"] or "not run") for e in entries]
    print_table(["name", "claim", ">minutes", "verdict here"], rows)


def _verdict(path: Path) -> str | None:
    from ranvier import claims as room
    from ranvier.errors import DataError

    if not path.exists():
        return None
    try:
        return room.read_result(path).verdict
    except DataError:
        return None


@claims.command("run")
def run(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Claims by name (see list), or 'all'.")],
    out: Out = FOLDER,
    scale: Annotated[
        str, typer.Option("--scale", help="quick, or another scale of the claim (see list --json).")
    ] = "quick",
    seeds: Annotated[
        int | None, typer.Option("--seeds", min=1, help="Run seeds 0..N-1 instead of the scale's.")
    ] = None,
    workers: Annotated[int, typer.Option("--workers", "-w", min=1, help="Trials at a time.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Run a claim's trials, decide its rules and write its page. Finished trials are kept.

    \b
    Examples:
      ranvier claims run spam_quadratic
      ranvier claims run spam_quadratic --seeds 5 --workers 2 --json
    """
    from ranvier import claims as room
    from ranvier.bench import claim_pages

    chosen = room.list_claims() if names == ["all"] else names
    for name in chosen:
        room.get_claim(name)  # a wrong name is told before anything is run
    results = []
    command = ["ranvier", "claims", "run", *names, "--out", str(out), "--scale", scale]
    with resumable(command):
        for name in chosen:
            results.append(
                room.run(
                    name,
                    out,
                    scale=scale,
                    seeds=None if seeds is None else tuple(range(seeds)),
                    workers=workers,
                    say=say,
                )
            )
    index = claim_pages.build(out)
    if as_json:
        print_json(results[0] if len(results) == 1 else results)
        return
    for result in results:
        print(f"{result.name}: {result.verdict}")
        marks = {"holds": "holds", "fails": "FAILS", "undecided": "undecided"}
        print_table(["", "rule", "figures"], [(marks[f.holds], f.rule, f.detail) for f in result.findings])
    print(f"report: {index}")


@claims.command("report")
def report(
    folder: Annotated[Path, typer.Argument(help="The folder that `claims run` wrote to.")] = FOLDER,
    as_json: AsJson = False,
) -> None:
    """Write the pages of all results in a folder again.

    \b
    Examples:
      ranvier claims report
      ranvier claims report runs/claims
    """
    from ranvier.bench import claim_pages

    index = claim_pages.build(folder)
    print_json({"index": index}) if as_json else print(f"report: {index}")
