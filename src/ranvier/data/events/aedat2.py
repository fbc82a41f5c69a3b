"""AEDAT 2.0, jAER's format: CIFAR10-DVS is recorded in it."""

from __future__ import annotations

import numpy as np

from ranvier.data.events.stream import Events
from ranvier.errors import DataError


def read_aedat2(data: bytes, where: str, sensor: tuple[int, int] = (128, 128)) -> Events:
    """The polarity events of an AEDAT 2.0 file, in order of time, as the sensor stores them.

    Comment lines that begin with "#", then pairs of big-endian 32-bit words: address and microseconds. An address has
    the type in bit 31 (0: a polarity event), y in bits 22 to 30, x in 12 to 21 and the polarity in 11. Raises
    `DataError` naming `where` when the file is cut off, or has events off the sensor.
    """
    place = 0
    while data[place : place + 1] == b"#":
        end = data.find(b"\n", place)
        place = len(data) if end < 0 else end + 1
    if not place:
        raise DataError(f"{where}: is not an AEDAT 2.0 file (it begins with {data[:16]!r})")
    body = data[place:]
    if len(body) % 8:
        raise DataError(f"{where}: {len(body)} bytes of events are not a whole number of 8 bytes; the file is cut off")
    words = np.frombuffer(body, ">u4").reshape(-1, 2).astype(np.int64)
    address, t = words[(words[:, 0] >> 31) == 0].T
    x, y, p = (address >> 12) & 0x3FF, (address >> 22) & 0x1FF, (address >> 11) & 1
    outside = (x >= sensor[1]) | (y >= sensor[0])
    if outside.any():
        i = int(outside.argmax())
        raise DataError(f"{where}: event {i} lies at x={x[i]}, y={y[i]}, off the sensor of {sensor[0]} x {sensor[1]}")
    order = np.argsort(t, kind="stable")
    return Events(t[order], x[order].astype(np.uint16), y[order].astype(np.uint16), p[order].astype(np.uint8))
