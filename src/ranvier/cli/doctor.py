"""`ranvier doctor`: what is here, what is missing, and what to do about it."""

from __future__ import annotations

import typer

from ranvier.cli.exits import FAILED
from ranvier.cli.options import AsJson, DataRoot
from ranvier.cli.output import print_json, print_table


def doctor(data_root: DataRoot = None, as_json: AsJson = False) -> None:
    """Look at versions, devices, kernels, optional packages and data, and say what to do.

    Ends with exit code 1 where something is wrong; what is only absent is a note.

    \b
    Examples:
      ranvier doctor
      ranvier doctor --json
    """
    from ranvier.measure.doctor import examine

    findings = examine(data_root)
    problems = [f for f in findings if f.status == "problem"]
    if as_json:
        print_json({"healthy": not problems, "findings": findings})
    else:
        rows = [(f.area, f.subject, f.status.upper() if f.status == "problem" else f.status, f.found) for f in findings]
        print_table(["area", "what", "", "found"], rows)
        remedies = [(f"{f.area}: {f.subject}", f.remedy) for f in findings if f.remedy]
        if remedies:
            print()
            print_table(["where", "what to do"], remedies)
    if problems:
        raise typer.Exit(FAILED)
