"""Messages between agents, bit by bit as they are sent."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ranvier.errors import ArgumentError, DataError
from ranvier.loop.envs.geometry import PER_SECTOR, SECTORS

HEADER_BITS = 128
SECTOR_BITS = PER_SECTOR * 8 + 5
RANGE_STEP = 8.0 / 254
NO_ECHO = 255
_POSE_STEP = 1e-3
"""Poses are sent in millimetres, headings in 1/10000 of a turn."""


@dataclass(frozen=True)
class Message:
    """What one agent tells the others in a tick.

    128 bits of header: pose (x, y, heading, 16 each), time (32, ms), sender (8), trust (8), intended sectors (30),
    two spare. Then for every shared sector 4 ranges of 8 bits (31.5 mm steps up to 8 m; 255: no echo) and its index of
    5 bits.

    Attributes:
        sender: 0 to 255; x, y: metres, 0 to 65.5; heading: radians; time_ms; trust: 0 to 1.
        intended: the sectors the sender means to sense next, 30 booleans.
        sectors: indices of the shared sectors, at most 30; ranges: their ranges `[K][4]`, metres, infinite: no echo.
    """

    sender: int
    x: float
    y: float
    heading: float
    time_ms: int
    trust: float
    intended: tuple[bool, ...]
    sectors: tuple[int, ...]
    ranges: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        if not 0 <= self.sender < 256 or not 0 <= self.time_ms < 1 << 32:
            raise ArgumentError(f"sender must fit 8 bits and time_ms 32, got {self.sender} and {self.time_ms}")
        if not (0 <= self.x < 65.5 and 0 <= self.y < 65.5 and math.isfinite(self.heading)):
            raise ArgumentError(
                f"pose must be in [0, 65.5) m with a finite heading, got {self.x}, {self.y}, {self.heading}"
            )
        if len(self.intended) != SECTORS or not 0 <= self.trust <= 1:
            raise ArgumentError(f"intended needs {SECTORS} entries and trust a value in [0, 1]")
        if len(self.sectors) != len(self.ranges) or len(self.sectors) > SECTORS:
            raise ArgumentError("sectors and ranges must be of one length, at most 30")
        if any(not 0 <= s < SECTORS for s in self.sectors) or any(len(r) != PER_SECTOR for r in self.ranges):
            raise ArgumentError("a sector is 0 to 29 and has four ranges")

    @property
    def bits(self) -> int:
        """Length on the radio."""
        return message_bits(len(self.sectors))

    def encode(self) -> bytes:
        """The message as bytes (its bits, and up to seven zero bits at the end)."""
        turn = round((self.heading % (2 * math.pi)) / (2 * math.pi) * 10000) % 10000
        out: list[tuple[int, int]] = [
            (round(self.x / _POSE_STEP), 16), (round(self.y / _POSE_STEP), 16), (turn, 16), (self.time_ms, 32),
            (self.sender, 8), (round(self.trust * 255), 8),
            *((int(flag), 1) for flag in self.intended), (0, 2),
        ]  # fmt: skip
        for sector, ranges in zip(self.sectors, self.ranges, strict=True):
            out += [(quantise(r), 8) for r in ranges]
            out.append((sector, 5))
        text = "".join(format(value, f"0{width}b") for value, width in out)
        text += "0" * (-len(text) % 8)
        return int(text, 2).to_bytes(len(text) // 8, "big")

    @classmethod
    def decode(cls, content: bytes) -> Message:
        """The message in `content`; `DataError` when it is none."""
        bits = np.unpackbits(np.frombuffer(content, np.uint8))
        body = len(bits) - HEADER_BITS
        if body < 0 or body % SECTOR_BITS > 7 or body // SECTOR_BITS > SECTORS:
            raise DataError(f"a message has {HEADER_BITS} + K x {SECTOR_BITS} bits, got {len(bits)}")
        at = 0

        def take(width: int) -> int:
            nonlocal at
            value = int("".join(map(str, bits[at : at + width])), 2)
            at += width
            return value

        x, y, turn, time_ms, sender, trust = take(16), take(16), take(16), take(32), take(8), take(8)
        intended = tuple(bool(take(1)) for _ in range(SECTORS))
        take(2)
        sectors: list[int] = []
        ranges: list[tuple[float, ...]] = []
        for _ in range(body // SECTOR_BITS):
            ranges.append(tuple(restore(take(8)) for _ in range(PER_SECTOR)))
            sectors.append(take(5))
        try:
            return cls(sender, x * _POSE_STEP, y * _POSE_STEP, turn * 2 * math.pi / 10000, time_ms, trust / 255,
                       intended, tuple(sectors), tuple(ranges))  # fmt: skip
        except ArgumentError as error:
            raise DataError(f"not a message: {error}") from error


def message_bits(sectors: int) -> int:
    """Bits of a message that shares so many sectors: 128 + 37 each."""
    return HEADER_BITS + SECTOR_BITS * sectors


def quantise(metres: float) -> int:
    """A range as 8 bits; 255 for no echo."""
    return NO_ECHO if not math.isfinite(metres) else min(max(round(metres / RANGE_STEP), 0), 254)


def restore(code: int) -> float:
    """The range of 8 bits."""
    return math.inf if code == NO_ECHO else code * RANGE_STEP
