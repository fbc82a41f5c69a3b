"""Generated source as importable files, so that the compilers' own disk caches work from one process to the next.

The folder is `$RANVIER_CACHE`, else `~/.cache/ranvier/kernels`; where it cannot be written, a folder that lives as long
as the process. A file is named after the SHA-256 of its text and its text is compared before it is imported.
"""

from __future__ import annotations

import atexit
import hashlib
import importlib.util
import os
import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path
from types import ModuleType

from ranvier.files import write_bytes
from ranvier.ops.step_scan.errors import CannotFuse


@cache
def _temporary() -> Path:
    folder = tempfile.mkdtemp(prefix="ranvier-kernels-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _folders() -> list[Path]:
    named = os.environ.get("RANVIER_CACHE")
    try:
        return [Path(named) if named else Path.home() / ".cache" / "ranvier" / "kernels"]
    except RuntimeError:  # no home
        return []


def _write(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / name
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_bytes(path, text.encode())
    return path


def module_of(text: str, context: str = "") -> ModuleType:
    """The module with this source. `context` is what else the compiled result depends on; it goes into the name."""
    digest = hashlib.sha256((text + "\n# " + context).encode()).hexdigest()
    name = f"ranvier_kernel_{digest[:32]}"
    if name in sys.modules:
        return sys.modules[name]
    for make in (*(lambda f=f: f for f in _folders()), _temporary):
        try:
            path = _write(make(), f"{name}.py", text)
            break
        except OSError:
            continue
    else:
        raise CannotFuse("no folder for generated kernels can be written; set RANVIER_CACHE")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
