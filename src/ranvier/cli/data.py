"""`ranvier data`: the data sets, and whether they are here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ranvier.cli.exits import resumable
from ranvier.cli.options import AsJson, DataRoot, KeyValues, key_values
from ranvier.cli.output import counting, print_json, print_table
from ranvier.errors import ConfigError


def data(
    name: Annotated[
        str | None, typer.Argument(help="A data set, to read and check; `build`, to compute one; without it: list all.")
    ] = None,
    options: KeyValues = None,
    data_root: DataRoot = None,
    as_json: AsJson = False,
) -> None:
    """List the data sets and where they lie, or read one and say what is in it.

    \b
    Examples:
      ranvier data
      ranvier data digits
      ranvier data nmnist T=8 --data-root ~/data --json
      ranvier data build fsdd-spikes jobs=2
    """
    from ranvier import data as room

    if name == "build":
        _build(options or [], data_root, as_json)
        return
    if name is not None:
        facts = describe(room.load(name, data_root, **key_values(options)))
        if as_json:
            print_json(facts)
        else:
            print_table(["", ""], [(key, shown(value)) for key, value in facts.items()])
        return
    infos = room.list_datasets(data_root)
    if as_json:
        print_json(infos)
        return
    rows = [
        (i.name, i.kind, i.task, "yes" if i.available else "no", i.path or ("—" if i.available else i.how))
        for i in infos
    ]
    print_table(["name", "kind", "task", "here", "where, or how to get it"], rows)


def _build(arguments: list[str], data_root: Path | None, as_json: bool) -> None:
    from ranvier import data as room

    able = [name for name, entry in sorted(room.DATASETS.items()) if entry.build is not None]
    if not arguments or "=" in arguments[0]:
        raise ConfigError(f"data build needs the name of a data set that can be computed: {', '.join(able)}")
    name, options = arguments[0], key_values(arguments[1:])
    with resumable(["ranvier", "data", "build", *arguments]), counting(f"building {name}") as progress:
        folder = room.build(name, data_root, progress=progress, **options)
    if as_json:
        print_json({"name": name, "path": str(folder)})
    else:
        print(f"{name} is in {folder}")


def describe(bundle: Any) -> dict[str, Any]:
    """The facts of a loaded data set."""
    return {
        "name": bundle.name, "kind": bundle.kind, "task": bundle.task,
        "train": len(bundle.train), "test": len(bundle.test),
        "validation": None if bundle.validation is None else len(bundle.validation),
        "input_shape": bundle.input_shape, "classes": bundle.classes, "mean": bundle.mean, "std": bundle.std,
        "options": bundle.options, "version": bundle.version, "fingerprint": bundle.fingerprint,
    }  # fmt: skip


def shown(value: Any) -> str:
    """A fact as a person reads it."""
    if isinstance(value, tuple | list):
        many = [f"{v:.4f}" if isinstance(v, float) else str(v) for v in value]
        return ", ".join(many[:12]) + (f", … ({len(many)})" if len(many) > 12 else "")
    if isinstance(value, dict):
        return ", ".join(f"{key}={entry}" for key, entry in value.items())
    return "—" if value is None else str(value)
