"""How a verb ends: exit codes, one clear line for an error, and a resumable run after Ctrl-C."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import typer

from ranvier.errors import (
    ArgumentError,
    ConfigError,
    DataError,
    MissingExtraError,
    RanvierError,
    UnknownNameError,
)
from ranvier.plugins import load_plugins

DONE, FAILED, USAGE, MISSING, INTERRUPTED = 0, 1, 2, 3, 130

_CODES: tuple[tuple[type[RanvierError], int], ...] = (
    (MissingExtraError, MISSING),
    (DataError, MISSING),
    (ConfigError, USAGE),
    (UnknownNameError, USAGE),
    (ArgumentError, USAGE),
)


def code_of(error: Exception) -> int:
    """The exit code that an error of the library, of the command line or of the system ends in."""
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    return int(getattr(error, "exit_code", FAILED))


def say(line: str) -> None:
    """One line on standard error."""
    print(line, file=sys.stderr, flush=True)


def run(app: typer.Typer, argv: Sequence[str]) -> int:
    """Run `app`; every expected failure becomes one line on standard error and an exit code.

    With RANVIER_DEBUG=1 the traceback is shown instead.
    """
    arguments = list(argv)
    try:
        load_plugins()
        outcome = app(args=arguments, prog_name="ranvier", standalone_mode=False)
        return outcome if isinstance(outcome, int) else DONE
    except (KeyboardInterrupt, typer.Abort):
        say("interrupted")
        return INTERRUPTED
    except SystemExit as error:  # a closed pipe
        return error.code if isinstance(error.code, int) else FAILED
    except Exception as error:
        if os.environ.get("RANVIER_DEBUG", "") not in ("", "0"):
            raise
        if isinstance(error, RanvierError | OSError):
            say(f"error: {' '.join(str(error).split())}")
        elif hasattr(error, "format_message"):  # wrong usage, as typer reports it
            message = str(error.format_message())  # pyright: ignore[reportAttributeAccessIssue]
            message = message.replace(": Value error, ", ": ")  # what a parser puts before its own words
            if message:  # empty where the help has just been shown
                say(f"error: {message}{_where_to_look(arguments)}")
        else:
            raise
        return code_of(error)


def _where_to_look(arguments: Sequence[str]) -> str:
    from ranvier.cli.app import VERBS

    words = [*arguments[:2], "", ""]
    verb = VERBS.get(words[0])
    if verb is None:
        return " (see: ranvier --help)"
    own = [command.name for command in verb.registered_commands] if isinstance(verb, typer.Typer) else []
    return f" (see: ranvier {' '.join(words[: 1 + (words[1] in own)])} --help)"


@contextmanager
def resumable(command: Sequence[str]) -> Iterator[None]:
    """Turn Ctrl-C into exit code 130 and the `command` that continues the work."""
    try:
        yield
    except KeyboardInterrupt:
        say(f"interrupted; to continue: {shlex.join(command)}")
        raise typer.Exit(INTERRUPTED) from None
