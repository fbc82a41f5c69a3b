"""Optional dependencies: imported late, and named together with their extra when they are missing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module, metadata
from importlib.util import find_spec, module_from_spec
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


@contextmanager
def only_version_of(package: str) -> Iterator[None]:
    """While this lasts, importing `package` gives an empty module with its `__version__`.

    For libraries that import another, large one at the top only to compare its version. Nothing happens where `package`
    is already imported, or is not installed; afterwards it can be imported as usual.
    """
    spec = None if package in sys.modules else find_spec(package)
    try:
        version = metadata.version(package)
    except metadata.PackageNotFoundError:  # at most a folder of that name
        version = None
    if spec is None or version is None:
        yield
        return
    empty = module_from_spec(spec)  # not executed
    empty.__version__ = version  # pyright: ignore[reportAttributeAccessIssue]
    sys.modules[package] = empty
    try:
        yield
    finally:
        if sys.modules.get(package) is empty:
            del sys.modules[package]
