"""`ranvier report`: the pages of a finished benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ranvier.cli.exits import FAILED, say
from ranvier.cli.options import AsJson
from ranvier.cli.output import print_json


def report(
    folder: Annotated[Path, typer.Argument(help="What `ranvier bench --out` wrote.")],
    check: Annotated[bool, typer.Option("--check", help="Only verify the result files; write nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write the report of a benchmark again, from its result files, or verify those files.

    \b
    Examples:
      ranvier report runs/quick
      ranvier report runs/quick --check
    """
    from ranvier import bench as room

    if check:
        problems = room.validate(folder)
        if as_json:
            print_json({"valid": not problems, "problems": problems})
        else:
            for problem in problems:
                say(problem)
            print(f"{folder}: {len(problems)} problems" if problems else f"{folder}: every result file is valid")
        raise typer.Exit(FAILED if problems else 0)
    index = room.report.build(folder)
    if as_json:
        print_json({"index": index})
    else:
        print(f"report: {index}")
