"""The public names and their signatures, one a line: `python scripts/public_api.py > tests/public_api.txt`.

`tests/test_public_api.py` compares the package with that file, so that nothing public changes by accident. Public is
what a room's `__all__` names.
"""

from __future__ import annotations

import inspect
import pkgutil
import re
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType

import ranvier

PRIVATE = {"ranvier.cli", "ranvier.__main__"}  # the command line has its own contract: docs/cli.md


def rooms() -> Iterator[ModuleType]:
    """The package and its modules of the first level that name what is public."""
    yield ranvier
    for info in pkgutil.iter_modules(ranvier.__path__, "ranvier."):
        if info.name not in PRIVATE:
            module = import_module(info.name)
            if hasattr(module, "__all__"):
                yield module


def signature(value: object) -> str:
    """The parameters of a callable, without annotations: names, order, kinds, and defaults that are plain values."""
    if not callable(value):
        return ""
    try:
        found = inspect.signature(value)
    except (TypeError, ValueError):
        return "(...)"
    parts: list[str] = []
    star = False
    for parameter in found.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not star:
            parts.append("*")
            star = True
        star = star or parameter.kind is parameter.VAR_POSITIONAL
        mark = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        text = mark + parameter.name
        if parameter.default is not parameter.empty:
            plain = isinstance(parameter.default, str | int | float | bool | tuple | None)
            shown = repr(parameter.default)
            text += f"={shown}" if plain and not re.search(r" at 0x|<", shown) else "=..."
        parts.append(text)
    return f"({', '.join(parts)})"


def lines() -> list[str]:
    """`room.name(signature)` for every public name; classes also with their public methods."""
    found: set[str] = set()
    for room in rooms():
        for name in room.__all__:
            value = getattr(room, name)
            if isinstance(value, ModuleType):
                found.add(f"{room.__name__}.{name}")
                continue
            found.add(f"{room.__name__}.{name}{signature(value)}")
            if isinstance(value, type):
                for method, function in vars(value).items():
                    if not method.startswith("_") and inspect.isfunction(function):
                        found.add(f"{room.__name__}.{name}.{method}{signature(function)}")
    return sorted(found)


if __name__ == "__main__":
    print("\n".join(lines()))
