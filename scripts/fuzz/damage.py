"""How a sound file is damaged: one to six injuries a case, the same for a case number on every machine."""

from __future__ import annotations

import random

NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1)
WORDS = (
    b"nan", b"-1", b"1e309", b"99999999999", b"", b"!!python/object:os.system", b"[", b"{", b"&a *a", b"\xff", b"null",
    b"true", b"{}", b"[]", b'""', b"../../up", b"0", b"1e-320", b"[" * 4000, b'{"a":' * 4000,
)  # fmt: skip


def damaged(sound: bytes, draw: random.Random, text: bool) -> bytes:
    """`sound` with one to six injuries: bits, bytes, lengths, cuts, repeats, numbers at the edge, words of a syntax."""
    data = bytearray(sound)
    for _ in range(draw.choice((1, 1, 1, 2, 3, 6))):
        if not data:
            return bytes(data)
        # half of all injuries hit the first bytes, where headers are
        place = draw.randrange(min(len(data), 64) if draw.random() < 0.5 else len(data))
        kind = draw.randrange(10 if text else 9)
        if kind == 0:
            data[place] ^= 1 << draw.randrange(8)
        elif kind == 1:
            data[place] = draw.choice((0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)))
        elif kind == 2:
            del data[place:]
        elif kind == 3:
            del data[place : place + draw.randrange(1, 33)]
        elif kind == 4:
            data[place:place] = data[place : place + draw.randrange(1, 65)]
        elif kind == 5:
            data[place:place] = draw.randbytes(draw.randrange(1, 33))
        elif kind == 6:
            size = draw.choice((2, 4, 8))
            number = draw.choice(NUMBERS) & ((1 << 8 * size) - 1)
            data[place : place + size] = number.to_bytes(size, draw.choice(("little", "big")))
        elif kind == 7:
            other = draw.randrange(len(data))
            data[place : place + 16] = data[other : other + 16]
        elif kind == 8 and not text:
            data += draw.randbytes(draw.randrange(1, 257))
        elif kind == 8:
            data[place : place + draw.randrange(4)] = draw.choice(WORDS)
        else:
            _replace_value(data, place, draw)
    return bytes(data)


def _replace_value(data: bytearray, place: int, draw: random.Random) -> None:
    """Put a word where a value of JSON or YAML stands, so that its syntax stays whole more often than not."""
    start = data.find(b":", place)
    if start < 0:
        return
    ends = [end for end in (data.find(mark, start) for mark in (b",", b"\n", b"}")) if end >= 0]
    data[start + 1 : min(ends, default=len(data))] = b" " + draw.choice(WORDS)


def case(name: str, sound: bytes, number: int, text: bool) -> bytes:
    """The damaged file of case `number` of a reader."""
    return damaged(sound, random.Random(f"{name}/{number}"), text)
