"""Packets of a live stream: what goes over a socket, with a checksum.

A packet is a header of 28 bytes, little-endian, and a payload:

| bytes | field | meaning |
| --- | --- | --- |
| 0..3 | magic | `RVS1` |
| 4 | kind | 1 events, 2 audio, 3 clock, 4 end of a recording |
| 5 | flags | 0 |
| 6..7 | detail | of audio: samples a second; else 0 |
| 8..11 | sequence | number of the packet, modulo 2³² |
| 12..15 | length | of the payload in bytes, at most 1 MiB |
| 16..23 | time | microseconds: of events the base of their times; of a clock, nothing before it is still to come |
| 24..27 | checksum | CRC-32 of bytes 0..23 and the payload |

An event has 8 bytes: time since the base (uint32, µs), x (uint16), y in the lower 15 bits and the polarity in the
highest bit of a uint16. Audio is int16.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranvier.data import Events
from ranvier.errors import ArgumentError

MAGIC = b"RVS1"
EVENTS, AUDIO, CLOCK, END = 1, 2, 3, 4
HEADER = struct.Struct("<4sBBHIIQ")
SIZE = HEADER.size + 4
LONGEST = 1 << 20
_WIRE = np.dtype([("dt", "<u4"), ("x", "<u2"), ("yp", "<u2")])


@dataclass(frozen=True, eq=False)
class Packet:
    """One packet: times `t` (int64 µs), `x`, `y`, `p` of events, or `audio` (int16) at `rate`."""

    kind: int
    time: int = 0
    sequence: int | None = None
    t: NDArray[np.int64] | None = None
    x: NDArray[np.uint16] | None = None
    y: NDArray[np.uint16] | None = None
    p: NDArray[np.uint8] | None = None
    audio: NDArray[np.int16] | None = None
    rate: int = 0
    arrived: float = 0.0

    def __len__(self) -> int:
        """Events, or samples of audio."""
        return len(self.t) if self.t is not None else (len(self.audio) if self.audio is not None else 0)


def of_events(events: Events, sequence: int | None = None) -> Packet:
    """A packet of events."""
    base = int(events.t[0]) if len(events) else 0
    return Packet(EVENTS, base, sequence, events.t, events.x, events.y, events.p)


def encode(packet: Packet, sequence: int) -> bytes:
    """A packet as bytes. Raises `ArgumentError` for what does not fit."""
    base, detail, body = packet.time, 0, b""
    if packet.kind == EVENTS and packet.t is not None:
        assert packet.x is not None and packet.y is not None and packet.p is not None
        wire: NDArray[Any] = np.empty(len(packet.t), _WIRE)
        base = int(packet.t.min()) if len(packet.t) else base
        span = packet.t - base
        if len(span) and (int(span.max()) >> 32 or int(packet.y.max()) >> 15):
            raise ArgumentError("a packet holds events of at most 2**32 us and rows of at most 32767")
        wire["dt"], wire["x"] = span, packet.x
        wire["yp"] = packet.y | (packet.p.astype(np.uint16) << 15)
        body = wire.tobytes()
    elif packet.kind == AUDIO and packet.audio is not None:
        if not 0 < packet.rate < 1 << 16:
            raise ArgumentError(f"rate must be 1 to 65535 samples a second, got {packet.rate!r}")
        body, detail = np.ascontiguousarray(packet.audio, "<i2").tobytes(), packet.rate
    if len(body) > LONGEST:
        raise ArgumentError(f"a packet holds at most {LONGEST} bytes, got {len(body)}; send several")
    head = HEADER.pack(MAGIC, packet.kind, 0, detail, sequence & 0xFFFFFFFF, len(body), base)
    return head + struct.pack("<I", zlib.crc32(body, zlib.crc32(head))) + body


class PacketReader:
    """Packets from bytes that come in pieces of any size; skips what is damaged, up to the next packet.

    It holds at most one packet.

    Attributes:
        corrupt: stretches of bytes that were skipped: packets with a wrong checksum, and bytes between packets.
        skipped: bytes in them.
    """

    def __init__(self) -> None:
        self._held = bytearray()
        self._lost = False  # inside a damaged stretch
        self.corrupt = self.skipped = 0

    def feed(self, data: bytes | bytearray | memoryview) -> list[Packet]:
        """The packets that are complete now."""
        self._held += data
        found: list[Packet] = []
        at, held = 0, self._held
        while len(held) - at >= SIZE:
            if held[at : at + 4] != MAGIC:
                at = self._skip(at, held.find(MAGIC, at + 1))
                continue
            _, kind, flags, detail, sequence, length, time = HEADER.unpack_from(held, at)
            if not EVENTS <= kind <= END or flags or length > LONGEST:
                at = self._skip(at, held.find(MAGIC, at + 1))
                continue
            if len(held) - at < SIZE + length:
                break
            body = bytes(held[at + SIZE : at + SIZE + length])
            (checksum,) = struct.unpack_from("<I", held, at + HEADER.size)
            packet = None
            if zlib.crc32(body, zlib.crc32(bytes(held[at : at + HEADER.size]))) == checksum:
                packet = _decoded(kind, detail, sequence, time, body)
            if packet is None:
                at = self._skip(at, held.find(MAGIC, at + 1))
                continue
            found.append(packet)
            self._lost = False
            at += SIZE + length
        del held[:at]
        return found

    def datagram(self, data: bytes) -> list[Packet]:
        """The packets of one datagram; a rest of it belongs to no other."""
        found = self.feed(data)
        self.close()
        return found

    def close(self) -> None:
        """No more bytes come: an unfinished packet counts as damaged."""
        if self._held:
            self._skip(0, len(self._held))
            self._held.clear()
        self._lost = False

    def _skip(self, at: int, to: int) -> int:
        """Go on at `to`, the next place that may begin a packet; −1 keeps the bytes that may begin one."""
        to = max(at + 1, len(self._held) - 3) if to < 0 else to
        self.corrupt += not self._lost
        self._lost = True
        self.skipped += to - at
        return to


def _decoded(kind: int, detail: int, sequence: int, time: int, body: bytes) -> Packet | None:
    """None for a payload that is not what its kind says; its time stays far from the end of 64 bits."""
    if time >> 62:
        return None
    if kind == EVENTS:
        if len(body) % _WIRE.itemsize:
            return None
        wire: NDArray[Any] = np.frombuffer(body, _WIRE)
        yp = wire["yp"]
        return Packet(
            kind, time, sequence, wire["dt"].astype(np.int64) + time, wire["x"].copy(), yp & np.uint16(0x7FFF),
            (yp >> 15).astype(np.uint8),
        )  # fmt: skip
    if kind == AUDIO:
        if len(body) % 2 or not detail:
            return None
        return Packet(kind, time, sequence, audio=np.frombuffer(body, "<i2").copy(), rate=detail)
    return None if body else Packet(kind, time, sequence)
