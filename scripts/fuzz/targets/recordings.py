"""Events in every format, and what streams read: files as packets, and packets off a socket."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fuzz.targets.alone import alone
from fuzz.targets.arrays import npy, npz, wav


def nmnist() -> bytes:
    return b"".join(bytes([i % 34, (i * 7) % 34, (i & 1) << 7, 0, i]) for i in range(60))


def events() -> Any:
    kind = [("t", "<u8"), ("x", "<u2"), ("y", "<u2"), ("p", "?")]
    return np.array([(i * 10, i % 8, i % 6, i % 2) for i in range(50)], kind)


def evt(version: int) -> bytes:
    head = f"% evt {version}.0\n% format EVT{version};height=32;width=32\n% geometry 32x32\n% end\n".encode()
    if version == 2:
        words = [(8 << 28) | 1] + [((i & 1) << 28) | ((i % 64) << 22) | ((i % 32) << 11) | (i % 32) for i in range(60)]
        return head + struct.pack(f"<{len(words)}I", *words)
    words = [0x8001, 0x6010]
    for i in range(40):
        words += [i % 32, 0x2000 | ((i & 1) << 11) | (i % 32)]
    return head + struct.pack(f"<{len(words)}H", *words)


def encoded(ending: str) -> Callable[[], bytes]:
    """The events as the decoder's own package writes them."""

    def sound() -> bytes:
        import tempfile

        import faery

        table = events()
        array = np.zeros(len(table), faery.EVENTS_DTYPE)
        for name in ("t", "x", "y", "p"):
            array[name] = table[name]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"events.{ending}"
            stream = faery.events_stream_from_array(array, (8, 6))
            stream.to_file(path)
            return path.read_bytes()

    return sound


def aedat3() -> bytes:
    body = b"".join(struct.pack("<II", 1 | (i % 2) << 1 | (i % 90) << 2 | (i % 100) << 17, 10 * i) for i in range(20))
    return b"#!AER-DAT3.1\r\n#!END-HEADER\r\n" + struct.pack("<HHIIIIII", 1, 0, 8, 4, 0, 20, 20, 20) + body


def aedat2() -> bytes:
    words = [((i % 90) << 22 | (i % 100) << 12 | (i & 1) << 11, 10 * i) for i in range(40)]
    return b"#!AER-DAT2.0\r\n" + b"".join(struct.pack(">II", *pair) for pair in words)


def mat(packed: bool = False) -> bytes:
    from scipy.io import savemat

    file = io.BytesIO()
    table = events()
    savemat(file, {"ts": table["t"].astype(float), "x": table["x"], "y": table["y"], "p": table["p"].astype(np.uint8)},
            do_compression=packed)  # fmt: skip
    return file.getvalue()


def packets() -> bytes:
    from ranvier.data import Events
    from ranvier.infer.stream.packet import AUDIO, CLOCK, END, Packet, encode, of_events

    table = Events.from_structured(events())
    sent = [of_events(table[:20]), of_events(table[20:]), Packet(CLOCK, 600),
            Packet(AUDIO, 600, audio=np.arange(40, dtype=np.int16), rate=8000), Packet(END, 700)]  # fmt: skip
    return b"".join(encode(packet, number) for number, packet in enumerate(sent))


def resealed(data: bytes) -> bytes:
    """Damaged packets whose checksums are right again, as an attacker would send them."""
    import zlib

    from ranvier.infer.stream.packet import HEADER, MAGIC, SIZE

    out = bytearray(data)
    at = out.find(MAGIC)
    while 0 <= at <= len(out) - SIZE:
        length = HEADER.unpack_from(out, at)[5]
        body = bytes(out[at + SIZE : at + SIZE + length])
        if len(body) == length:
            seal = zlib.crc32(body, zlib.crc32(bytes(out[at : at + HEADER.size])))
            struct.pack_into("<I", out, at + HEADER.size, seal)
        at = out.find(MAGIC, at + 4)
    return bytes(out)


def recorded() -> bytes:
    root = os.environ.get("RANVIER_DATA")
    path = Path(root or "") / "events" / "sample.aedat4"
    return path.read_bytes()[: 1 << 20] if root and path.is_file() else b""


def _read_nmnist(path: Path) -> object:
    from ranvier.data.sets.nmnist import read_recording

    return read_recording(path.read_bytes(), str(path))


def _read_events(path: Path) -> object:
    from ranvier.data.events import read_events

    return read_events(path)


def _read_aedat2(path: Path) -> object:
    from ranvier.data.events.aedat2 import read_aedat2

    return read_aedat2(path.read_bytes(), str(path))


def _read_mat(path: Path) -> object:
    from ranvier.data.archive import Archive
    from ranvier.data.sets import cep_dvs

    return cep_dvs._read(Archive(path.parent), [path.name], 0)


def _binned(found: list[Any], sensor: tuple[int, int] | None) -> object:
    """The events of packets, put in order and counted in frames as a stream does it."""
    from ranvier.infer.stream.frames import Framer
    from ranvier.infer.stream.packet import EVENTS

    frames = Framer((2, 6, 8), 1000, sensor or (6, 8), longest_gap=50)
    kept: list[Any] = []
    for packet in found:
        if packet.kind == EVENTS and packet.t is not None and len(packet.t):
            order = np.argsort(packet.t, kind="stable")
            kept += list(frames.push((packet.t[order], packet.x[order], packet.y[order], packet.p[order])))
    return [*kept, *frames.finish()]


def _read_stream(path: Path) -> object:
    from ranvier.infer.stream.sources import read_file

    found, sensor = read_file(path)
    return _binned(list(found), sensor)


def _read_packets(path: Path) -> object:
    from ranvier.infer.stream.packet import PacketReader

    data, reader, found = path.read_bytes(), PacketReader(), []
    for start in range(0, len(data), 97):
        found += reader.feed(data[start : start + 97])
    reader.close()
    return _binned(found, None)


def _read_resealed(path: Path) -> object:
    path.write_bytes(resealed(path.read_bytes()))
    return _read_packets(path)


def _read_message(path: Path) -> object:
    from ranvier.loop.multi.message import Message

    return Message.decode(path.read_bytes())


def _message() -> bytes:
    from ranvier.loop.multi.message import Message

    flags = tuple(i % 3 == 0 for i in range(30))
    ranges = ((1.0, 2.0, 3.0, float("inf")), (0.5, 0.25, 7.5, 8.0))
    return Message(3, 1.5, 2.5, 0.7, 12345, 0.9, flags, (4, 17), ranges).encode()


TARGETS = (
    alone("nmnist.bin", "00001.bin", nmnist, _read_nmnist),
    alone("events.npy", "events.npy", lambda: npy(events()), _read_events),
    alone("events.npz", "events.npz", lambda: npz(events=events()), _read_events),
    alone("evt2.raw", "evt2.raw", lambda: evt(2), _read_events),
    alone("evt3.raw", "evt3.raw", lambda: evt(3), _read_events),
    alone("events.es", "events.es", encoded("es"), _read_events),
    alone("events.dat", "events.dat", encoded("dat"), _read_events),
    alone("events.csv", "events.csv", encoded("csv"), _read_events, text=True),
    alone("events.aedat4", "events.aedat4", encoded("aedat4"), _read_events),
    alone("recorded.aedat4", "recorded.aedat4", recorded, _read_events, cut=True),
    alone("aedat3", "events.aedat", aedat3, _read_events),
    alone("aedat2", "cifar10_cat_0.aedat", aedat2, _read_aedat2),
    alone("events.mat", "0.mat", mat, _read_mat),
    alone("events.packed.mat", "0.mat", lambda: mat(True), _read_mat),
    alone("stream.rvs", "stream.rvs", packets, _read_stream),
    alone("stream.evt3.raw", "stream.raw", lambda: evt(3), _read_stream),
    alone("stream.npy", "stream.npy", lambda: npy(events()), _read_stream),
    alone("stream.wav", "stream.wav", wav, _read_stream),
    alone("packets", "packets", packets, _read_packets),
    alone("packets.resealed", "packets", packets, _read_resealed),
    alone("radio.message", "message", _message, _read_message),
)
