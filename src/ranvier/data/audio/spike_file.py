"""Spike recordings in HDF5, in the layout of SHD and SSC: `spikes/times[i]`, `spikes/units[i]`, `labels`, `extra/`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranvier.data.audio.spikes import SpikeRecordings, microseconds
from ranvier.data.hdf5 import Bytes, Lists, check_start, dataset, mapped, numbers
from ranvier.errors import DataError
from ranvier.extras import require
from ranvier.files import replacing

CHUNK = 512  # recordings read at a time


def read_spike_file(path: Path, channels: int = 700, empty: bool = False) -> SpikeRecordings:
    """All recordings of an HDF5 file of the Heidelberg layout (Cramer et al. 2022); times there are in seconds.

    Raises `DataError` that names the file, and the recording, for a file that is broken, truncated or of another
    layout; for events that are not sorted, negative, not finite or of a unit outside `0 .. channels − 1`; and, unless
    `empty`, for a recording without events.
    """
    h5py: Any = require("h5py", extra="data")
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    try:
        with mapped(path, str(path)) as data:
            check_start(data, str(path))
            with h5py.File(path, "r") as file:
                return _read(file, data, path, channels, empty)
    except DataError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, MemoryError) as error:  # h5py raises them all
        raise DataError(f"{path}: is not a whole HDF5 file of spikes: {error}") from error


def _read(file: Any, data: Bytes, path: Path, channels: int, empty: bool) -> SpikeRecordings:
    for name in ("spikes/times", "spikes/units", "labels"):
        if name not in file:
            raise DataError(f"{path}: has no {name!r}; a file of the Heidelberg layout has spikes/times, spikes/units "
                            "and labels")  # fmt: skip
    times, units = (Lists(file, f"spikes/{name}", data, str(path)) for name in ("times", "units"))
    for name, lists in (("times", times), ("units", units)):
        if len(lists.shape) != 1:
            raise DataError(f"{path}: 'spikes/{name}' must be one list of numbers a recording, got {lists.shape}")
    labels = numbers(file, "labels", str(path), "iu")
    if labels.ndim != 1 or not len(times) == len(units) == len(labels):
        raise DataError(
            f"{path}: {len(times)} recordings of times, {len(units)} of units and labels {labels.dtype} {labels.shape} "
            "do not fit together"
        )
    if not len(labels):
        raise DataError(f"{path}: holds no recordings")
    parts: list[tuple[NDArray[np.int32], NDArray[np.uint16]]] = []
    lengths = np.zeros(len(labels) + 1, np.int64)
    for start in range(0, len(labels), CHUNK):
        chunk = [
            microseconds(times[i], units[i], channels, f"{path}: recording {i}")
            for i in range(start, min(start + CHUNK, len(labels)))
        ]
        for i, (t, _) in enumerate(chunk):
            if not len(t) and not empty:
                raise DataError(f"{path}: recording {start + i} has no events; pass empty=true to keep such recordings")
            lengths[start + i + 1] = len(t)
        parts.append((np.concatenate([t for t, _ in chunk]), np.concatenate([u for _, u in chunk])))
    first = np.cumsum(lengths)
    t, u = np.empty(first[-1], np.int32), np.empty(first[-1], np.uint16)
    end = 0
    for chunk_t, chunk_u in parts:
        t[end : end + len(chunk_t)], u[end : end + len(chunk_t)] = chunk_t, chunk_u
        end += len(chunk_t)
    return SpikeRecordings(
        t, u, first, labels.astype(np.int64), _speakers(file, data, path, len(labels)),
        _names(file, data, path, "extra/keys"),
    )  # fmt: skip


def _names(file: Any, data: Bytes, path: Path, name: str) -> tuple[str, ...]:
    if name not in file:
        return ()
    if dataset(file, name, str(path)).dtype.kind == "O":
        texts = Lists(file, name, data, str(path), texts=True)
        values: list[Any] = [texts[i].tobytes() for i in range(len(texts))]
    else:
        values = numbers(file, name, str(path), "iuS").reshape(-1).tolist()
    return tuple(v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values)


def _speakers(file: Any, data: Bytes, path: Path, count: int) -> tuple[str, ...]:
    speakers = _names(file, data, path, "extra/speaker")
    names = _names(file, data, path, "extra/meta_info/speaker_name")
    if len(speakers) != count:
        return ()
    if names and all(s.isdecimal() and int(s) < len(names) for s in speakers):
        return tuple(names[int(s)] for s in speakers)
    return speakers


def write_spike_file(path: Path, recordings: SpikeRecordings) -> None:
    """Write `recordings` in the layout of SHD, times as float32 seconds; atomically.

    Speakers become numbers, as in the official files, with their names in `extra/meta_info/speaker_name`.
    """
    h5py: Any = require("h5py", extra="data")
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, h5py.File(temporary, "w", libver="v110") as file:
        count = len(recordings)
        times = file.create_dataset("spikes/times", (count,), h5py.vlen_dtype(np.float32))
        units = file.create_dataset("spikes/units", (count,), h5py.vlen_dtype(np.uint16))
        for i in range(count):
            t, u = recordings[i]
            times[i], units[i] = (t / 1e6).astype(np.float32), u
        file["labels"] = recordings.labels.astype(np.uint16)
        text = h5py.string_dtype()
        if recordings.keys:
            file.create_dataset("extra/keys", data=list(recordings.keys), dtype=text)
        if recordings.speakers:
            names = sorted(set(recordings.speakers))
            file["extra/speaker"] = np.array([names.index(s) for s in recordings.speakers], np.uint16)
            file.create_dataset("extra/meta_info/speaker_name", data=names, dtype=text)
