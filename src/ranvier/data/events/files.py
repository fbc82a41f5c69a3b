"""Recordings in files: Prophesee EVT2 and EVT3, AEDAT4, DAT, ES and CSV through faery; arrays; AEDAT 3.1."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

from ranvier.data.events.aedat4 import check_lengths
from ranvier.data.events.stream import EVENT_DTYPE, Events
from ranvier.errors import DataError
from ranvier.extras import require

_FAERY = {".raw", ".aedat4", ".dat", ".es", ".csv"}
SUFFIXES = frozenset({*_FAERY, ".npy", ".npz", ".aedat"})


def read_events(path: str | Path) -> tuple[Events, tuple[int, int]]:
    """The events of a recording and the size (height, width) of its sensor.

    `.raw` (EVT2, EVT3), `.aedat4`, `.dat`, `.es` and `.csv` need the package faery (extra "events"); `.npy` and `.npz`
    hold structured arrays with t, x, y and p; `.aedat` is version 3.1, as DVS128 Gesture has it. Raises `DataError` for
    files that are missing, cut off or something else.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    if path.suffix not in SUFFIXES:
        raise DataError(f"{path}: recordings end in {', '.join(sorted(SUFFIXES))}")
    if path.suffix in (".npy", ".npz"):
        return _array(path)
    if path.suffix == ".aedat":
        return read_aedat3(path.read_bytes(), str(path)), (128, 128)
    if path.suffix == ".aedat4":
        check_lengths(path)
    faery = require("faery", extra="events")
    parts: list[Any] = []
    try:
        stream = faery.events_stream_from_file(path)
        width, height = stream.dimensions()
        for packet in stream:
            parts.append(packet.copy())
    except BaseException as error:  # the decoder has no error type of its own, and its panics are no `Exception`
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise DataError(f"{path}: is not a whole recording: {error}") from error
    array = np.concatenate(parts) if parts else np.zeros(0, EVENT_DTYPE)
    try:
        return Events.from_structured(array), (int(height), int(width))
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _array(path: Path) -> tuple[Events, tuple[int, int]]:
    try:
        loaded = np.load(path, allow_pickle=False)
        array = loaded[loaded.files[0]] if path.suffix == ".npz" else loaded
        if not isinstance(array, np.ndarray):
            raise ValueError("an archive of arrays")
    except Exception as error:  # a broken header ends in whatever Python's own parser raises
        raise DataError(f"{path}: is not a whole array of events: {error}") from error
    try:
        events = Events.from_structured(array)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    size = (int(events.y.max()) + 1, int(events.x.max()) + 1) if len(events) else (1, 1)
    return events, size


def read_aedat3(data: bytes, where: str) -> Events:
    """The polarity events of an AEDAT 3.1 file, in order of time.

    Packets have a header of 28 bytes; a polarity event is two little-endian words: validity, polarity, y, x, and the
    time in microseconds. Raises `DataError` when a packet is cut off.
    """
    if not data.startswith(b"#!AER-DAT3.1"):
        raise DataError(f"{where}: is not an AEDAT 3.1 file (it begins with {data[:16]!r})")
    end = data.find(b"#!END-HEADER\r\n")
    place = end + 14 if end >= 0 else _after_comments(data)
    words: list[Any] = []
    while place < len(data):
        if place + 28 > len(data):
            raise DataError(f"{where}: ends in the middle of a packet header at byte {place}")
        kind, _, size, _, overflow, capacity, count, _ = struct.unpack_from("<HHIIIIII", data, place)
        length = capacity * size
        if place + 28 + count * size > len(data):
            raise DataError(f"{where}: ends in the middle of the packet at byte {place}; is it cut off?")
        if kind == 1:
            if size != 8:
                raise DataError(f"{where}: polarity events of {size} bytes at byte {place}, expected 8")
            part = np.frombuffer(data, "<u4", 2 * count, place + 28).reshape(-1, 2).astype(np.int64)
            words.append(np.stack([part[:, 0], part[:, 1] + (overflow << 31)], 1))
        place += 28 + min(length, len(data) - place - 28)
    table = np.concatenate(words) if words else np.zeros((0, 2), np.int64)
    table = table[(table[:, 0] & 1) == 1]
    table = table[np.argsort(table[:, 1], kind="stable")]
    address = table[:, 0]
    return Events(
        table[:, 1], ((address >> 17) & 0x7FFF).astype(np.uint16), ((address >> 2) & 0x7FFF).astype(np.uint16),
        ((address >> 1) & 1).astype(np.uint8),
    )  # fmt: skip


def _after_comments(data: bytes) -> int:
    place = 0
    while data[place : place + 1] == b"#":
        line = data.find(b"\n", place)
        if line < 0:
            return len(data)
        place = line + 1
    return place
