"""Targets of one file each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fuzz.harness import Target


def alone(
    name: str, file: str, sound: Callable[[], bytes], read: Callable[[Path], object], text: bool = False,
    cut: bool = False,
) -> Target:  # fmt: skip
    """A reader of one file that nothing lies beside."""
    return Target(name, lambda: {file: sound()}, file, read, text, cut)
