"""N-MNIST: MNIST recorded by a moving event camera, 34 x 34 pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ranvier.data.archive import Archive, stamp
from ranvier.data.bundle import DATASETS, DatasetEntry, Parts, first_existing, located
from ranvier.data.cache import Arrays, Notes, cache_key, keep, lookup
from ranvier.data.events import EVENT_DTYPE, Events, to_frames
from ranvier.data.samples import ArraySamples, Indices, Samples, as_index
from ranvier.errors import ArgumentError, DataError

SENSOR = (34, 34)
_SPLITS = ("Train", "Test")
IN_MEMORY_BYTES = 2 << 30  # of frames; more are binned batch by batch
_OVERFLOW_ROW, _OVERFLOW = 240, 1 << 13  # an event in row 240 only says that the clock has wrapped


def read_recording(data: bytes, where: str, sensor: tuple[int, int] = SENSOR) -> Events:
    """The events of one `.bin` file (Orchard et al. 2015): 5 bytes each, x, y, 1 bit polarity, 23 bits microseconds.

    Raises `DataError` naming `where` when it is empty, cut off, out of the order of time or off the sensor.
    """
    if not data or len(data) % 5:
        raise DataError(f"{where}: {len(data)} bytes are not a whole number of N-MNIST events of 5 bytes")
    raw = np.frombuffer(data, np.uint8).reshape(-1, 5)
    y = raw[:, 1]
    t = ((raw[:, 2] & 0x7F).astype(np.int64) << 16) | (raw[:, 3].astype(np.int64) << 8) | raw[:, 4]
    p = raw[:, 2] >> 7
    x = raw[:, 0]
    wrapped = y == _OVERFLOW_ROW
    if wrapped.any():
        t = (t + np.cumsum(wrapped) * _OVERFLOW)[~wrapped]
        x, y, p = x[~wrapped], y[~wrapped], p[~wrapped]
    outside = (x >= sensor[1]) | (y >= sensor[0])
    if outside.any():
        i = int(outside.argmax())
        raise DataError(
            f"{where}: event {i} lies at x={x[i]}, y={y[i]}, off the {sensor[0]} x {sensor[1]} sensor; is this "
            f"{'N-MNIST' if sensor == SENSOR else 'such a recording'}?"
        )
    try:
        return Events(t, x.astype(np.uint16), y.astype(np.uint16), p.astype(np.uint8))
    except DataError as error:
        raise DataError(f"{where}: {error}") from error


def picture(name: str) -> str:
    """The key of the MNIST image that the recording `Train/<label>/<index>.bin` shows: `train/<index>`."""
    split, *_, file = name.split("/")
    index = file.removesuffix(".bin")
    return f"{split.lower()}/{int(index) if index.isdigit() else index}"


class RecordingSamples(Samples):
    """Recordings that stay in their files and are binned when asked for."""

    def __init__(self, archive: Archive, names: list[str], T: int, split_by: str, values: str) -> None:
        self.archive = archive
        self.names = names
        self.labels = torch.tensor([int(name.split("/")[-2]) for name in names], dtype=torch.int64)
        self.time_first = True
        self.keys = [picture(name) for name in names]
        self.T, self.split_by, self.values = T, split_by, values

    def events(self, index: int) -> Events:
        """The recording itself."""
        name = self.names[index]
        return read_recording(self.archive.read(name), self.archive.where(name))

    def frames(self, index: int) -> Tensor:
        """Its frames, uint8 `[T, 2, 34, 34]`."""
        split_by, values = self.split_by, self.values
        return to_frames(self.events(index), self.T, SENSOR, split_by=split_by, values=values, dtype=torch.uint8)  # pyright: ignore[reportArgumentType]

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        index = as_index(indices, len(self))
        if not len(index):
            return torch.zeros(self.T, 0, 2, *SENSOR), self.labels[index]
        return torch.stack([self.frames(i) for i in index.tolist()], 1).to(torch.float32), self.labels[index]


def load_nmnist(
    root: Path | None,
    path: str | None = None,
    T: int = 10,
    split_by: Literal["time", "count"] = "time",
    values: Literal["binary", "count"] = "binary",
    in_memory: bool | Literal["auto"] = "auto",
) -> Parts:
    """60,000 train and 10,000 test recordings as frames `[T, 2, 34, 34]` (Orchard et al. 2015), OFF before ON.

    Read from `Train/<label>/<index>.bin` and `Test/...` in a folder or zip at `path`, or called `N-MNIST`, `nmnist` or
    `NMNIST` (also with `.zip`), or `nmnist_small.zip`. A part of the recordings will do.

    Args:
        T: frames a recording.
        split_by: windows of equal "time" or of equal event "count".
        values: "binary" (0 or 1: spikes) or "count" (up to 255, which exceeds [0, 1]).
        in_memory: bin everything once (and keep it in the cache), or bin every batch anew; "auto" decides by the size
            of the frames, 2 GiB.
    """
    if in_memory not in (True, False, "auto"):
        raise ArgumentError(f"in_memory must be true, false or 'auto', got {in_memory!r}")
    to_frames(np.zeros(0, EVENT_DTYPE), T, SENSOR, split_by=split_by, values=values)  # checks the options
    place = located("nmnist", root, path)
    if not in_memory:
        return _lazy(Archive(place), T, split_by, values)
    key = cache_key(stamp(place), T, split_by, values, 2)
    found = lookup("nmnist", key)
    if found is None:
        parts = _lazy(archive := Archive(place), T, split_by, values)
        if in_memory == "auto" and _frame_bytes(parts, T) > IN_MEMORY_BYTES:
            return parts
        found = keep("nmnist", key, *_binned(parts, archive))
    arrays, notes = found
    train, test = (
        ArraySamples(torch.from_numpy(arrays[s]), torch.from_numpy(arrays[f"{s}_labels"]), scale=1) for s in _SPLITS
    )
    for split, part in zip(_SPLITS, (train, test), strict=True):
        part.keys = notes["keys"][split]
    return Parts(train, test, tuple("0123456789"), notes["content"])


def _lazy(archive: Archive, T: int, split_by: str, values: str) -> Parts:
    names = _layout(archive)
    train, test = (RecordingSamples(archive, names[split], T, split_by, values) for split in _SPLITS)
    return Parts(train, test, tuple("0123456789"), archive.content([*train.names, *test.names], read=False))


def _frame_bytes(parts: Parts, T: int) -> int:
    return (len(parts.train) + len(parts.test)) * T * 2 * SENSOR[0] * SENSOR[1]


def _binned(parts: Parts, archive: Archive) -> tuple[Arrays, Notes]:
    arrays: Arrays = {}
    names: list[str] = []
    keys: dict[str, Any] = {}
    for split, samples in zip(_SPLITS, (parts.train, parts.test), strict=True):
        assert isinstance(samples, RecordingSamples)
        frames = arrays[split] = np.empty((len(samples), samples.T, 2, *SENSOR), np.uint8)
        for i in range(len(samples)):
            frames[i] = samples.frames(i).numpy()
        arrays[f"{split}_labels"] = samples.labels.numpy()
        names += samples.names
        keys[split] = list(samples.keys or ())
    return arrays, {"content": archive.content(names), "keys": keys}


def _layout(archive: Archive) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {"Train": [], "Test": []}
    for member in archive.members.values():
        split, *rest = member.name.split("/")
        if split not in found:
            continue
        if len(rest) != 2 or rest[0] not in tuple("0123456789") or not rest[1].endswith(".bin"):
            raise DataError(
                f"{archive.where(member.name)}: is not a recording {split}/<label>/<index>.bin; take it out"
            )
        if not member.size or member.size % 5:
            raise DataError(
                f"{archive.where(member.name)}: {member.size} bytes are not a whole number of N-MNIST events of 5 bytes"
            )
        found[split].append(member.name)
    for split, names in found.items():
        if not names:
            raise DataError(f"{archive.path}: has no recordings in {split}/<label>/")
        names.sort(key=lambda name: (len(name.split("/")[2]), name.split("/")[2]))  # the order of MNIST itself
    return found


def _find(root: Path | None) -> Path | None:
    folders = ("N-MNIST", "nmnist", "NMNIST")
    return first_existing(root, *folders, *(f"{name}.zip" for name in folders), "nmnist_small.zip")


DATASETS.register("nmnist")(
    DatasetEntry(
        kind="event", load=load_nmnist, find=_find,
        how="Unpack the official Train.zip and Test.zip into <data folder>/N-MNIST.",
    )
)  # fmt: skip
