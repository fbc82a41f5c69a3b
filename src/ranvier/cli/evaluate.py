"""`ranvier eval`: a finished run on its data again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ranvier.cli.options import AsJson, DataRoot
from ranvier.cli.output import print_json, print_table


def evaluate(
    run: Annotated[Path, typer.Argument(help="Folder of a run, as `ranvier train --out` wrote it.")],
    split: Annotated[str, typer.Option("--split", help="test, validation or train.")] = "test",
    batch_size: Annotated[int | None, typer.Option("--batch-size", min=1, help="Samples a forward pass.")] = None,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, ...")] = "cpu",
    data_root: DataRoot = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate the selected weights of a run: accuracy, and accuracy after each time step.

    \b
    Examples:
      ranvier eval runs/first
      ranvier eval runs/first --split validation --json
    """
    from ranvier import train as room

    figures = room.evaluate(
        run, split=split, batch_size=batch_size, data_root=data_root, device=device  # pyright: ignore[reportArgumentType]
    )  # fmt: skip
    if as_json:
        print_json({"run": run, "split": split, **figures.to_json()})
        return
    by_step = ", ".join(f"{accuracy:.2%}" for accuracy in figures.accuracy_by_step)
    rate = "—" if figures.firing_rate is None else f"{figures.firing_rate:.2%}"
    accuracy: list[tuple[str, str]] = []
    if figures.accuracy is not None:
        accuracy = [(f"{split} accuracy", f"{figures.accuracy:.2%} of {figures.n}"), ("after each step", by_step)]
    facts = [
        *accuracy,
        ("loss", f"{figures.loss:.4f}"),
        ("firing rate", rate),
        ("time", f"{figures.seconds:.2f} s"),
    ]
    print_table(["", ""], facts)
