"""Vectors of numbers in MATLAB files of version 5 to 7, as recordings are stored in them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranvier.errors import DataError

_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_MATRIX, _COMPRESSED = 14, 15
_MOST = 1 << 30  # bytes of a compressed variable; more is a bomb


def read_mat(data: bytes, where: str) -> dict[str, NDArray[Any]]:
    """The real numeric arrays of a MATLAB file by name, flat, in MATLAB's order; other variables are left out.

    Raises `DataError` naming `where` for a file of another version (7.3 is HDF5) or one that is damaged.
    """
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    if order is None or len(data) < 136:
        raise DataError(f"{where}: is not a MATLAB file of version 5 to 7")
    found: dict[str, NDArray[Any]] = {}
    try:
        for kind, part in _elements(data[128:], order):
            if kind == _COMPRESSED:
                unpacked = zlib.decompressobj().decompress(part, _MOST)
                kind, part = next(_elements(unpacked, order), (0, b""))
            if kind == _MATRIX and (variable := _variable(part, order)) is not None:
                found[variable[0]] = variable[1]
    except (struct.error, zlib.error, ValueError, IndexError) as error:
        raise DataError(f"{where}: is not a whole MATLAB file: {error}") from error
    return found


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Kind and content of every element; a short one has both in its first eight bytes."""
    place = 0
    while place + 8 <= len(data):
        kind, size = struct.unpack_from(f"{order}II", data, place)
        if kind >> 16:
            yield kind & 0xFFFF, data[place + 4 : place + 4 + min(kind >> 16, 4)]
            place += 8
            continue
        if place + 8 + size > len(data):
            raise ValueError(f"an element of {size} bytes goes beyond the end")
        yield kind, data[place + 8 : place + 8 + size]
        place += 8 + size + (-size % 8 if kind != _COMPRESSED else 0)
    if data[place:].strip(b"\0"):
        raise ValueError("it ends in the middle of an element")


def _variable(data: bytes, order: str) -> tuple[str, NDArray[Any]] | None:
    """Name and values of a matrix, or None when it is no real array of numbers."""
    parts = list(_elements(data, order))
    if len(parts) < 4:
        return None
    (flags,) = struct.unpack_from(f"{order}I", parts[0][1])
    kind, values = parts[3]
    if not 6 <= flags & 0xFF <= 15 or flags & 0x800 or kind not in _NUMBERS:  # classes of numbers; not complex
        return None
    array = np.frombuffer(values, np.dtype(order + _NUMBERS[kind]))
    count = int(np.prod(np.frombuffer(parts[1][1], np.dtype(f"{order}i4")), dtype=object))
    if count != len(array):
        raise ValueError(f"a variable of {len(array)} numbers says it has {count}")
    return parts[2][1].decode("ascii", errors="replace"), array
