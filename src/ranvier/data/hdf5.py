"""Heaps of HDF5 files, checked before the library reads them: some damaged ones make it loop for ever."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

from ranvier.errors import DataError

_SIGNATURE = b"GCOL\x01\x00\x00\x00"
_COLLECTION = struct.Struct("<8sQ")
_OBJECT = struct.Struct("<HHIQ")


def check_heaps(source: Path | bytes, where: str) -> None:
    """Raise `DataError` naming `where` when objects of a global heap do not fill it one after the other.

    Lists of varying length and texts lie in such heaps. An unused object without a length, which no writer makes, is
    read again and again by the library.
    """
    if isinstance(source, bytes):
        _check(source, where)
        return
    try:
        with source.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            _check(data, where)
    except (OSError, ValueError) as error:  # an empty file cannot be mapped
        raise DataError(f"{where}: cannot be read: {error}") from error


def _check(data: bytes | mmap.mmap, where: str) -> None:
    start = data.find(_SIGNATURE)
    while start >= 0:
        place, found = start + _COLLECTION.size, len(data) - start
        if found >= _COLLECTION.size:
            _, size = _COLLECTION.unpack_from(data, start)
            end = start + min(size, found)
            while place + _OBJECT.size <= end:
                index, _, _, length = _OBJECT.unpack_from(data, place)
                step = _OBJECT.size + length + -length % 8 if index else length
                if step < _OBJECT.size or place + step > end:
                    raise DataError(f"{where}: is a damaged HDF5 file: an object of {length} bytes at byte {place}")
                place += step
        start = data.find(_SIGNATURE, max(place, start + 8))
