"""The command line: thin, every verb calls one function of a room below."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ranvier.errors import MissingExtraError
from ranvier.extras import require

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run `ranvier ARGV` (the arguments of the process when None) and return its exit code.

    0 done; 1 the run failed; 2 wrong usage, option or configuration; 3 an extra or data is missing; 130 interrupted.
    """
    try:
        for module in ("typer", "rich"):
            require(module, extra="cli")
    except MissingExtraError as error:
        print(f"error: the command line cannot start: {error}", file=sys.stderr)
        return 3
    from ranvier.cli.app import app
    from ranvier.cli.exits import run

    return run(app, sys.argv[1:] if argv is None else argv)
