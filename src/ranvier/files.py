"""Files that are there completely or not at all, even when the power fails."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TEMPORARY = ".tmp"  # how the name of an unfinished file ends: a writer that was killed leaves it behind


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give the block an empty file beside `path` to fill, which becomes `path` when the block ends.

    Readers see the old file or the whole new one. If the block raises, the old file stays and nothing else is left.
    Permissions follow the umask, as with any new file. Errors of the file system pass as `OSError`.
    """
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}{TEMPORARY}")
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
        sync_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_bytes(path: Path, content: bytes) -> None:
    """Replace `path` by `content`; readers see the old file or the whole new one."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def sync_folder(folder: Path) -> None:
    """Make new names in `folder` survive a power cut, where the system can do that."""
    if os.name == "posix":
        _sync(folder, os.O_RDONLY)


def _sync(path: Path, mode: int = os.O_RDWR) -> None:
    handle = os.open(path, mode)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
