"""Arguments and options that several verbs share."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from ranvier.errors import ConfigError

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
DataRoot = Annotated[
    Path | None, typer.Option("--data-root", help="Folder of the data sets; default: the variable RANVIER_DATA.")
]
KeyValues = Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Arguments, such as T=4.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings by dotted key, such as train.lr=1e-3.")
]


def key_values(given: Iterable[str] | None) -> dict[str, Any]:
    """`["T=4", "neuron.tau=3"]` as a nested mapping; values are read as YAML: numbers are numbers."""
    from ranvier.train.recipe_file import parse_yaml

    tree: dict[str, Any] = {}
    for item in given or ():
        key, equals, text = item.partition("=")
        parts = key.split(".")
        if not equals or not all(parts):
            raise ConfigError(f"argument {item!r}: expected KEY=VALUE, such as T=4")
        value = parse_yaml(text, f"argument {item!r}")
        branch = tree
        for part in parts[:-1]:
            branch = branch.setdefault(part, {})
            if not isinstance(branch, dict):
                raise ConfigError(f"argument {item!r}: {part!r} already has a value")
        branch[parts[-1]] = value
    return tree
