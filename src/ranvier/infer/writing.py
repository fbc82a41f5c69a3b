"""What cannot be written ends in one error that names the file and the reason."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from ranvier.errors import CheckpointError


@contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn an error of the file system into a `CheckpointError`: a full disk, a folder that is read-only."""
    try:
        yield
    except OSError as error:
        raise CheckpointError(f"{os.fspath(path)}: cannot be written ({error.strerror or error})") from error
