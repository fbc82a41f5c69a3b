"""The error hierarchy: every error that bad input can cause derives from `RanvierError`."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class RanvierError(Exception):
    """Root of every error that Ranvier raises on purpose."""


class ArgumentError(RanvierError, ValueError):
    """An argument has a value that the function cannot work with."""


class ShapeError(ArgumentError):
    """A tensor has the wrong shape, rank or layout (time comes first)."""


class StateError(RanvierError, RuntimeError):
    """Carried state does not fit the input that continues it."""


class ConfigError(RanvierError, ValueError):
    """A recipe, suite or override is not valid."""


class DataError(RanvierError, ValueError):
    """A data file is missing, truncated or not what its name says."""


class CheckpointError(RanvierError, ValueError):
    """A checkpoint does not match the model, or is damaged."""


class UnknownNameError(RanvierError, KeyError):
    """A name is not in a registry."""

    def __str__(self) -> str:  # KeyError would print the repr
        return str(self.args[0]) if self.args else ""


class MissingExtraError(RanvierError, ImportError):
    """An optional dependency is not installed; the message names the extra."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A `; did you mean 'x'?` suffix for an unknown `name`, or the list of known names when none is close."""
    known = sorted(known)
    match = get_close_matches(name, known, n=1, cutoff=0.5)
    if match:
        return f"; did you mean {match[0]!r}?"
    listing = ", ".join(known[:12]) + (", …" if len(known) > 12 else "")
    return f"; known: {listing}" if known else ""
