"""`ranvier bench`: run a suite and report on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ranvier.cli.exits import say
from ranvier.cli.options import AsJson
from ranvier.cli.output import console, print_json

if TYPE_CHECKING:
    from ranvier.bench import BenchResult


def bench(
    suite: Annotated[str | None, typer.Argument(help="A suite by name (see --list), or a YAML file.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Results and report; default: runs/SUITE.")] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", "-w", min=1, help="Experiments at a time; default: what the cores hold.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option("--only", help="Only this model; may be repeated.")] = None,
    runner: Annotated[
        str,
        typer.Option("--engine", "--runner", help="process: here; ray: a cluster (RAY_ADDRESS, else here); inline."),
    ] = "process",
    step: Annotated[
        Path | None, typer.Option("--import-step", help="Turn a YAML file of STEP into a recipe (to --out or here).")
    ] = None,
    list_them: Annotated[bool, typer.Option("--list", help="Name the suites that come with Ranvier.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run every experiment of a suite, print the leaderboard and write a report.

    Finished experiments are kept: run the same command again to continue, or after adding a model.

    \b
    Examples:
      ranvier bench --list
      ranvier bench quick --out runs/quick
      ranvier bench my_suite.yaml --out runs/mine --workers 2
      RAY_ADDRESS=host:6379 ranvier bench my_suite.yaml --engine ray
      ranvier bench --import-step spikformer/cifar10.yml --out recipe.yaml
    """
    from ranvier import bench as room

    if list_them:
        names = room.list_suites()
        print_json(names) if as_json else print("\n".join(names))
        return
    if step is not None:
        import_step(step, out, as_json)
        return
    if suite is None:
        raise typer.BadParameter("name a suite, or see --list", param_hint="SUITE")
    folder = out if out is not None else Path("runs") / Path(suite).stem
    outcome = room.run(
        suite, folder, workers, only=only, runner=runner, show_progress=not as_json  # pyright: ignore[reportArgumentType]
    )  # fmt: skip
    index = room.report.build(folder) if outcome.results or outcome.failures else None
    if as_json:
        print_json(summary(outcome, index))
    else:
        console().print(room.leaderboard_table(outcome.results))
        for failure in outcome.failures:
            say(f"failed: {failure.label}, seed {failure.seed}: {failure.error}")
        if outcome.skipped:
            print(f"{outcome.skipped} finished earlier, {outcome.ran} run now")
        print(f"report: {index}" if index else "no result yet, so no report")
    raise typer.Exit(outcome.exit_code)


def import_step(path: Path, out: Path | None, as_json: bool) -> None:
    """A configuration of STEP as a recipe: to a file or to standard output; what differs goes to standard error."""
    from ranvier.bench.result import write_text
    from ranvier.bench.step_config import import_step as read

    imported = read(path)
    if as_json:
        print_json({"recipe": imported.recipe, "notes": imported.notes})
    elif out is None:
        print(imported.recipe.to_yaml(), end="")
    if out is not None:
        write_text(out, imported.recipe.to_yaml())
    if not as_json:
        for note in imported.notes:
            say(note)
        if out is not None:
            print(f"recipe: {out}; train it with: ranvier train {out}")


def summary(outcome: BenchResult, index: Path | None) -> dict[str, object]:
    """What a script wants to know: the leaderboard's figures and where everything lies."""
    from ranvier.bench import summarise

    rows = [
        {
            "task": board.title, "rank": row.rank, "label": row.label, "model": row.first.model.name,
            "metric": board.metric, "score": row.score, "accuracy": row.score if board.metric == "accuracy" else None,
            "params": row.first.model.params, "T": row.first.model.steps,
            "spike_driven": row.spike_driven, "synops": row.synops, "energy_pj": row.energy, "train_s": row.train_s,
        }
        for board in summarise(outcome.results)
        for row in board.rows
    ]  # fmt: skip
    return {
        "out": outcome.out, "index": index, "results": len(outcome.results), "ran": outcome.ran,
        "skipped": outcome.skipped, "failures": outcome.failures, "interrupted": outcome.interrupted,
        "wall_s": outcome.wall_s, "leaderboard": rows,
    }  # fmt: skip
