"""What a run writes: JSON and whole folders, each there completely or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from ranvier.errors import RanvierError
from ranvier.files import TEMPORARY, sync_folder, write_bytes


class RunError(RanvierError):
    """A run cannot be written, read or continued."""


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn an error of the file system into a `RunError` that says what could not be done, and why."""
    try:
        yield
    except OSError as error:
        raise RunError(f"cannot {what}: {error.strerror or error}") from error


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """`write_bytes` of readable JSON."""
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
    write_bytes(path, f"{text}\n".encode())


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Give the block a folder to fill, which becomes `folder` when the block ends: all or nothing.

    An older folder of that name is replaced. The files are to be `synced`.
    """
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-", suffix=TEMPORARY))
    try:
        yield temporary
        sync_folder(temporary)
        os.chmod(temporary, 0o755)
        if folder.exists():  # left behind by a run that was stopped before it could point to it
            shutil.rmtree(folder)
        os.rename(temporary, folder)
        sync_folder(folder.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


@contextmanager
def synced(path: Path) -> Iterator[IO[bytes]]:
    """A new file to write, which survives a power cut once the block has ended."""
    with open(path, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
