"""Decoded arrays on disk, so that a data set is decoded once: written atomically, verified on every load."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranvier.files import replacing, write_bytes

Arrays = dict[str, NDArray[Any]]
Notes = dict[str, Any]


def cache_folder() -> Path:
    """`$RANVIER_CACHE`, else `ranvier` in `$XDG_CACHE_HOME` or `~/.cache`."""
    if named := os.environ.get("RANVIER_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ranvier"


def lookup(kind: str, key: str) -> tuple[Arrays, Notes] | None:
    """What `keep` stored under this `key`, or None when there is nothing, or it is torn or altered (by its SHA-256).

    The arrays come memory-mapped (copy on write), so that processes share them.
    """
    return _read(_folder(kind, key))


def keep(kind: str, key: str, arrays: Arrays, notes: Notes) -> tuple[Arrays, Notes]:
    """Store arrays, and notes that JSON can hold; returns them memory-mapped.

    A cache that cannot be written costs a warning, and what was given comes back.
    """
    folder = _folder(kind, key)
    try:
        _write(folder, arrays, notes)
    except OSError as error:
        warnings.warn(f"cannot keep decoded data in {folder}: {error}; set RANVIER_CACHE", RuntimeWarning, stacklevel=3)
        return arrays, notes
    return _read(folder) or (arrays, notes)


def cache_key(*parts: object) -> str:
    """One key for everything that the arrays depend on."""
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()


def _folder(kind: str, key: str) -> Path:
    return cache_folder() / "data" / f"{kind}-{key[:32]}"


def digest(array: NDArray[Any]) -> str:
    """SHA-256 of the type, shape and bytes of an array."""
    array = np.ascontiguousarray(array)
    sha = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode())
    sha.update(array.reshape(-1).view(np.uint8).data)
    return sha.hexdigest()


def _read(folder: Path) -> tuple[Arrays, Notes] | None:
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        arrays = {
            name: np.load(folder / f"{name}.npy", mmap_mode="c", allow_pickle=False)  # c: PyTorch wants writable
            for name in manifest["arrays"]
        }
        intact = all(digest(arrays[name]) == expected for name, expected in manifest["arrays"].items())
        return (arrays, manifest["notes"]) if intact else None
    except Exception:  # a broken header ends in whatever Python's own parser raises; then it is decoded again
        return None


def _write(folder: Path, arrays: Arrays, notes: Notes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        with replacing(folder / f"{name}.npy") as temporary, temporary.open("wb") as file:
            np.save(file, array, allow_pickle=False)
    manifest: Mapping[str, Any] = {"arrays": {name: digest(array) for name, array in arrays.items()}, "notes": notes}
    # The manifest comes last: without it, or with another one, nothing here counts.
    write_bytes(folder / "manifest.json", json.dumps(manifest, indent=1).encode())
