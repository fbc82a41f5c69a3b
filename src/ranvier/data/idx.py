"""The IDX file format of MNIST: a magic number, big-endian sizes, then unsigned bytes."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

from ranvier.errors import DataError

_LARGEST = 1 << 34  # bytes; a header that announces more is not believed
_CHUNK = 1 << 24


def read_idx(path: Path, ndim: int) -> NDArray[np.uint8]:
    """The uint8 array of `ndim` axes in an IDX file, plain or gzip'd (by its content, not its name).

    Raises `DataError` naming the file when it is missing, truncated, too long, or something else.
    """
    try:
        with path.open("rb") as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            return _parse(cast("IO[bytes]", gzip.GzipFile(fileobj=raw)) if zipped else raw, path, ndim)
    except (OSError, EOFError, zlib.error) as error:  # BadGzipFile is an OSError
        raise DataError(f"{path}: cannot be read: {error}") from error


def _parse(file: IO[bytes], path: Path, ndim: int) -> NDArray[np.uint8]:
    head = file.read(4 + 4 * ndim)
    expected = bytes([0, 0, 8, ndim])
    if head[:4] != expected:
        raise DataError(
            f"{path}: is not an IDX file of {ndim}-D unsigned bytes: starts with {head[:4].hex() or 'nothing'}, "
            f"expected {expected.hex()}"
        )
    if len(head) < 4 + 4 * ndim:
        raise DataError(f"{path}: is truncated in its header")
    shape = [int(n) for n in np.frombuffer(head, ">u4", offset=4)]
    want = int(np.prod(shape, dtype=object))
    if not 0 < want <= _LARGEST:
        raise DataError(f"{path}: announces the impossible shape {tuple(shape)}")
    body = bytearray()
    while len(body) <= want and (part := file.read(min(_CHUNK, want + 1 - len(body)))):
        body += part
    if len(body) != want:
        found = f"only {len(body)}" if len(body) < want else "more"
        raise DataError(f"{path}: announces {want} bytes of data for shape {tuple(shape)} but holds {found}")
    return np.frombuffer(body, np.uint8).reshape(shape)
