"""Modules of one's own with neurons, models, data sets, claims: RANVIER_PLUGINS names them."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

from ranvier.errors import ConfigError

VARIABLE = "RANVIER_PLUGINS"
_loaded: dict[str, ModuleType | None] = {}


def load_plugins() -> list[ModuleType]:
    """Import what the environment variable RANVIER_PLUGINS names, once a process, and return these modules.

    It holds files (`my_neurons.py`) or importable modules (`lab.neurons`), separated as in PATH. The command line
    imports them when it starts, and every registry before it says that it does not know a name; so the processes of a
    suite and of a distributed run know them too.

    Raises `ConfigError` for a file or module that is not there, or that fails.
    """
    for name in filter(None, os.environ.get(VARIABLE, "").split(os.pathsep)):
        if name in _loaded:
            continue
        _loaded[name] = None  # before the import, which may ask a registry
        try:
            _loaded[name] = _import(name)
        except BaseException:
            del _loaded[name]
            raise
    return [module for module in _loaded.values() if module is not None]


def _import(name: str) -> ModuleType:
    path = Path(name).expanduser()
    is_file = path.suffix == ".py" or len(path.parts) > 1
    if is_file and not path.is_file():
        raise ConfigError(f"{VARIABLE} names the file {name}, which does not exist (looked in {Path.cwd()})")
    try:
        if not is_file:
            return importlib.import_module(name)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None:
            raise ConfigError(f"{VARIABLE}: {name} is not a Python file; its name must end in .py")
        module = importlib.util.module_from_spec(spec)
        if path.stem in sys.modules:
            raise ConfigError(f"{VARIABLE}: a module named {path.stem!r} is there already; rename {name}")
        sys.modules[path.stem] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[path.stem]
            raise
        return module
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"{VARIABLE}: importing {name} failed: {type(error).__name__}: {error}") from error
