"""`ranvier data`: the data sets, and whether they are here."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ranvier.cli.options import AsJson, DataRoot, KeyValues, key_values
from ranvier.cli.output import print_json, print_table


def data(
    name: Annotated[
        str | None, typer.Argument(help="A data set, to read and check; without it: list them all.")
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
      ranvier data nmnist steps=8 --data-root ~/data --json
    """
    from ranvier import data as room

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
    rows = [(i.name, i.kind, "yes" if i.available else "no", i.path or ("—" if i.available else i.how)) for i in infos]
    print_table(["name", "kind", "here", "where, or how to get it"], rows)


def describe(bundle: Any) -> dict[str, Any]:
    """The facts of a loaded data set."""
    return {
        "name": bundle.name, "kind": bundle.kind, "train": len(bundle.train), "test": len(bundle.test),
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
