"""Lengths in AEDAT4 files, checked before the decoder believes them: it sets aside what a length says."""

from __future__ import annotations

import struct
from pathlib import Path

from ranvier.errors import DataError

_MAGIC = b"#!AER-DAT4.0\r\n"
_MOST = 1 << 26  # bytes; a packet that is cut off is the decoder's affair while it is no longer than this


def check_lengths(path: Path) -> None:
    """Raise `DataError` when a header or packet of an AEDAT4 file says it is far longer than the file.

    The description in the header must be text, too: the decoder cannot even say so, it ends the process.

    After the magic come a length and a header (a FlatBuffer), then packets of a stream number, a length and a payload,
    and from where the header says a table of them.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise DataError(f"{path}: is not an AEDAT 4.0 file")
        (length,) = struct.unpack("<I", file.read(4).rjust(4, b"\0"))
        place = len(_MAGIC) + 4 + length
        if place > size:
            raise DataError(f"{path}: announces a header of {length} bytes, but has {size} in all; is it cut off?")
        try:
            table = _header(file.read(length))
        except (struct.error, UnicodeDecodeError) as error:
            raise DataError(f"{path}: has a damaged header") from error
        end = table if table >= place else size
        while place + 8 <= min(size, end):
            file.seek(place)
            _, length = struct.unpack("<iI", file.read(8))
            if place + 8 + length > size:
                if length > _MOST:
                    raise DataError(
                        f"{path}: announces {length} bytes at byte {place}, but ends after {size - place - 8}"
                    )
                return
            place += 8 + length


def _header(head: bytes) -> int:
    """The second field of the header, −1 where it is left out. The third has to be text."""
    (root,) = struct.unpack_from("<I", head)
    (back,) = struct.unpack_from("<i", head, root)
    fields = root - back
    if fields < 0:
        raise struct.error("the header's fields lie before it")
    (length,) = struct.unpack_from("<H", head, fields)
    (text,) = struct.unpack_from("<H", head, fields + 8) if length >= 10 else (0,)
    if text:
        place = root + text
        place += struct.unpack_from("<I", head, place)[0]
        (size,) = struct.unpack_from("<I", head, place)
        head[place + 4 : place + 4 + size].decode()
    (offset,) = struct.unpack_from("<H", head, fields + 6) if length >= 8 else (0,)
    return struct.unpack_from("<q", head, root + offset)[0] if offset else -1
