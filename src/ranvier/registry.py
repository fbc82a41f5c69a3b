"""A name-to-object table whose failures explain themselves."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Generic, TypeVar, cast

from ranvier.errors import ArgumentError, UnknownNameError, nearest
from ranvier.plugins import load_plugins

V = TypeVar("V")
E = TypeVar("E")


class Registry(Mapping[str, V], Generic[V]):
    """Names to classes or functions of one `kind` ("neuron", "encoder", ...)."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, V] = {}

    def register(self, name: str) -> Callable[[E], E]:
        """Decorator that adds its target under `name`; a second, different entry under a name is an error."""

        def add(entry: E) -> E:  # not V: a registered class keeps its own type, with its constructor's arguments
            if name in self._entries:
                raise ArgumentError(f"{self.kind} {name!r} is already registered; choose another name")
            self._entries[name] = cast("V", entry)
            return entry

        return add

    def __getitem__(self, name: str) -> V:
        if name not in self:
            raise UnknownNameError(f"unknown {self.kind} {name!r}{nearest(str(name), self._entries)}")
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        if name not in self._entries:
            load_plugins()
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def check_keywords(target: Callable[..., Any], given: Mapping[str, Any], what: str) -> None:
    """Raise `ArgumentError` for the first keyword in `given` that `target` does not take, naming the nearest one."""
    if not given:
        return
    known = (_keywords if isinstance(target, Hashable) else _keywords.__wrapped__)(target)
    if known is None:
        return
    for keyword in given:
        if keyword not in known:
            raise ArgumentError(f"{what} takes no argument {keyword!r}{nearest(keyword, known)}")


@lru_cache(maxsize=1024)  # nets ask for every neuron of theirs
def _keywords(target: Callable[..., Any]) -> tuple[str, ...] | None:
    """What `target` takes by name; None where it takes any."""
    parameters = inspect.signature(target).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return tuple(p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name != "self")
