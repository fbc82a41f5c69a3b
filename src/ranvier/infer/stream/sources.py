"""Where packets come from: files, and sockets."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from ranvier.data import Events
from ranvier.data.events import read_events
from ranvier.data.events.aedat4 import check_lengths
from ranvier.errors import ArgumentError, DataError
from ranvier.extras import require
from ranvier.infer.stream.packet import AUDIO, END, LONGEST, SIZE, Packet, PacketReader, of_events

_PIECE = 8192  # events in a packet made from a file
_DECODED = {".raw", ".aedat4", ".dat", ".es", ".csv"}


def read_file(path: str | Path) -> tuple[Iterator[Packet], tuple[int, int] | None]:
    """The packets of a recording and the size (height, width) of its sensor; None for sound.

    Events in `.raw` (EVT2, EVT3), `.aedat4`, `.dat`, `.es` and `.csv` are decoded as they are taken, `.npy` is mapped,
    `.npz` and `.aedat` are read whole; `.wav` is mono. `.rvs` holds packets as they go over a socket. Raises
    `DataError` for a file that is missing, damaged or something else; one that is cut off ends there with an error.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    if path.suffix == ".rvs":
        return _packets(path), None
    if path.suffix == ".wav":
        return _sound(path), None
    if path.suffix == ".npy":
        return _mapped(path)
    if path.suffix in _DECODED:
        return _decoded(path)
    events, sensor = read_events(path)
    return _pieces(events), sensor


def _pieces(events: Events) -> Iterator[Packet]:
    for first in range(0, len(events), _PIECE):
        yield of_events(events[first : first + _PIECE])


def _decoded(path: Path) -> tuple[Iterator[Packet], tuple[int, int]]:
    if path.suffix == ".aedat4":
        check_lengths(path)
    faery: Any = require("faery", extra="events")
    try:
        stream = faery.events_stream_from_file(path)
        width, height = stream.dimensions()
    except Exception as error:  # the decoder has no error type of its own
        raise DataError(f"{path}: is not a recording: {error}") from error

    def packets() -> Iterator[Packet]:
        try:
            for part in stream:
                polarity = part["on"] if "on" in (part.dtype.names or ()) else part["p"]
                yield Packet(
                    1, t=part["t"].astype(np.int64), x=part["x"].astype(np.uint16), y=part["y"].astype(np.uint16),
                    p=polarity.astype(np.uint8),
                )  # fmt: skip
        except Exception as error:
            raise DataError(f"{path}: is not a whole recording: {error}") from error

    return packets(), (int(height), int(width))


def _mapped(path: Path) -> tuple[Iterator[Packet], tuple[int, int]]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(array, np.ndarray):
            raise ValueError("an archive of arrays")
    except Exception as error:  # a broken header ends in whatever Python's own parser raises
        raise DataError(f"{path}: is not a whole array of events: {error}") from error
    Events.from_structured(array[:0])  # the fields are there
    size = (int(array["y"].max()) + 1, int(array["x"].max()) + 1) if len(array) else (1, 1)

    def packets() -> Iterator[Packet]:
        for first in range(0, len(array), _PIECE):
            yield of_events(Events.from_structured(np.array(array[first : first + _PIECE])))

    return packets(), size


def _sound(path: Path) -> Iterator[Packet]:
    soundfile: Any = require("soundfile", extra="data")
    try:
        with soundfile.SoundFile(path) as file:
            if file.channels != 1:
                raise DataError(f"{path}: has {file.channels} channels, expected 1")
            while len(block := file.read(16384, dtype="int16")):
                yield Packet(AUDIO, audio=block, rate=int(file.samplerate))
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise DataError(f"{path}: cannot be decoded as WAV: {error}") from error


def _packets(path: Path) -> Iterator[Packet]:
    reader = PacketReader()
    with path.open("rb") as file:
        while data := file.read(1 << 16):
            yield from reader.feed(data)
    reader.close()


@dataclass
class Listener:
    """A socket that packets arrive at, from one sender at a time.

    Attributes:
        address: as it can be given to a sender, with the port that was chosen.
        reader: counts what was damaged.
    """

    address: str
    reader: PacketReader
    receive: Callable[[Callable[[], bool]], Iterator[Packet]]
    close: Callable[[], None]


def listen(address: str, receive_buffer: int = 1 << 22) -> Listener:
    """Open `tcp://HOST:PORT`, `udp://HOST:PORT` or `unix:PATH`; port 0 takes a free one.

    TCP and Unix sockets serve one connection after the other; the end of a connection ends the recording. Raises
    `ArgumentError` for another address and `DataError` when it cannot be opened.
    """
    parts, reader = urlsplit(address), PacketReader()
    place: str | tuple[str, int]
    if parts.scheme == "unix" and (parts.path or parts.netloc):
        family, kind, place = socket.AF_UNIX, socket.SOCK_STREAM, parts.path or parts.netloc
    elif parts.scheme in ("tcp", "udp") and parts.hostname is not None and parts.port is not None:
        kind = socket.SOCK_STREAM if parts.scheme == "tcp" else socket.SOCK_DGRAM
        family, place = socket.AF_INET, (parts.hostname, parts.port)
    else:
        raise ArgumentError(f"address must be tcp://HOST:PORT, udp://HOST:PORT or unix:PATH, got {address!r}")
    server = socket.socket(family, kind)
    try:
        if family == socket.AF_INET:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        server.bind(place)
        if kind == socket.SOCK_STREAM:
            server.listen(1)
    except OSError as error:
        server.close()
        raise DataError(f"{address}: cannot be listened at: {error}") from error
    if isinstance(place, str):
        return Listener(f"unix:{place}", reader, _connections(server, reader), lambda: _gone(server, place))
    found = f"{parts.scheme}://{parts.hostname}:{server.getsockname()[1]}"
    receive = _connections if kind == socket.SOCK_STREAM else _datagrams
    return Listener(found, reader, receive(server, reader), server.close)


def _gone(server: socket.socket, place: str) -> None:
    server.close()
    with suppress(OSError):
        os.unlink(place)


def _datagrams(
    server: socket.socket, reader: PacketReader
) -> Callable[[Callable[[], bool]], Iterator[Packet]]:  # fmt: skip
    def receive(stopped: Callable[[], bool]) -> Iterator[Packet]:
        server.settimeout(0.1)
        while not stopped():
            try:
                data = server.recv(SIZE + LONGEST)
            except TimeoutError:
                continue
            except OSError:
                return
            now = time.perf_counter()
            for packet in reader.datagram(data):
                yield replace(packet, arrived=now)

    return receive


def _connections(
    server: socket.socket, reader: PacketReader
) -> Callable[[Callable[[], bool]], Iterator[Packet]]:  # fmt: skip
    def receive(stopped: Callable[[], bool]) -> Iterator[Packet]:
        server.settimeout(0.1)
        while not stopped():
            try:
                connection, _ = server.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            with connection:
                connection.settimeout(0.1)
                while not stopped():
                    try:
                        data = connection.recv(1 << 16)
                    except TimeoutError:
                        continue
                    except OSError:
                        break
                    if not data:
                        break
                    now = time.perf_counter()
                    for packet in reader.feed(data):
                        yield replace(packet, arrived=now)
            reader.close()
            yield Packet(END, arrived=time.perf_counter())

    return receive
