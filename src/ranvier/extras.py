"""Optional dependencies: imported late, and named together with their extra when they are missing."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from ranvier.errors import MissingExtraError


def require(module: str, extra: str) -> ModuleType:
    """Import `module`, or raise `MissingExtraError` that says which extra of Ranvier brings it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"this needs the package {module.split('.')[0]!r}; install it with: pip install 'ranvier[{extra}]'"
        ) from error
