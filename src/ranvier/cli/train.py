"""`ranvier train`: a recipe becomes a run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ranvier.cli.exits import resumable
from ranvier.cli.options import AsJson, Overrides
from ranvier.cli.output import print_json, print_table


def train(
    recipe: Annotated[str | None, typer.Argument(help="A recipe by name (see --list), or a YAML file.")] = None,
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder of the run; default: runs/NAME.")] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Start anew instead of continuing the run.")] = False,
    print_config: Annotated[bool, typer.Option("--print-config", help="Print the resolved recipe and stop.")] = False,
    list_them: Annotated[bool, typer.Option("--list", help="Name the recipes that come with Ranvier.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train a model by a recipe; the same command continues a run that was interrupted.

    Weights are selected on a validation part of the training data; the test data is looked at once, at the end.

    \b
    Examples:
      ranvier train --list
      ranvier train digits_mlp train.epochs=1 --out runs/first
      ranvier train digits_mlp model.args.T=2 train.lr=3e-3 --print-config
    """
    from ranvier import train as room

    if list_them:
        names = room.list_recipes()
        print_json(names) if as_json else print("\n".join(names))
        return
    if recipe is None:
        raise typer.BadParameter("name a recipe, or see --list", param_hint="RECIPE")
    resolved = room.load_recipe(recipe, overrides or [])
    if print_config:
        print_json(resolved) if as_json else sys.stdout.write(resolved.to_yaml())
        return
    folder = out if out is not None else Path("runs") / resolved.name
    with resumable(["ranvier", "train", recipe, *(overrides or []), "--out", str(folder)]):
        result = room.fit(resolved, folder, resume=not restart, progress=not as_json)
    if as_json:
        print_json({**result.to_json(), "out": result.out})
        return
    (figure, test), form = result.test.deciding or ("loss", result.test.loss), ".2%"
    if figure == "loss":
        form = ".4f"
    validation = "none set aside" if result.validation is None else f"{result.validation[figure]:{form}}"
    facts = [
        (f"test {figure}", f"{test:{form}} of {result.test.n}"),
        (f"validation {figure}", f"{validation} (epoch {result.selected_epoch} of {result.epochs})"),
        ("trained", f"{result.params:,} parameters, {result.steps} steps, {result.train_s:.1f} s"),
        ("run", result.out),
    ]
    print_table(["", ""], facts)
