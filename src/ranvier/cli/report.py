"""`ranvier report`: the pages of a finished benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ranvier.cli.options import AsJson
from ranvier.cli.output import print_json


def report(
    folder: Annotated[Path, typer.Argument(help="What `ranvier bench --out` wrote.")],
    as_json: AsJson = False,
) -> None:
    """Write the report of a benchmark again, from its result files.

    \b
    Examples:
      ranvier report runs/quick
    """
    from ranvier.bench import report as room

    index = room.build(folder)
    if as_json:
        print_json({"index": index})
    else:
        print(f"report: {index}")
