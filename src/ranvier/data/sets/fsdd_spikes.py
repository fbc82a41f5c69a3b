"""The Free Spoken Digit Dataset as heard by the model ear: spikes of 700 channels, in the layout of SHD."""

from __future__ import annotations

import os
import shutil
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ranvier.data.archive import Archive, stamp
from ranvier.data.audio.bins import Binning
from ranvier.data.audio.spike_file import read_spike_file, write_spike_file
from ranvier.data.audio.spikes import SpikeRecordings, held_out_mask
from ranvier.data.bundle import DATASETS, DatasetEntry, Parts, first_existing, located
from ranvier.data.cache import cache_folder, cache_key, keep, lookup
from ranvier.data.sets.fsdd import CLASSES, Takes, find_fsdd, read_takes
from ranvier.data.sets.shd import SENSOR, spike_parts
from ranvier.encode.cochlea import Cochlea
from ranvier.errors import ArgumentError

VERSION = 1  # of what the encoder computes
CHUNK = 60  # recordings of a part that an interrupted build keeps
FILES = ("fsdd_spikes_train.h5", "fsdd_spikes_test.h5")
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def load_fsdd_spikes(
    root: Path | None,
    path: str | None = None,
    held_out: str | None = None,
    T: int | None = 100,
    dt: float = 10.0,
    channels: int = 140,
    binning: Literal["grid", "absolute", "event"] = "grid",
    values: Literal["count", "binary"] = "count",
) -> Parts:
    """Spoken digits as spikes of the model ear (`ranvier.encode.Cochlea`), binned: `[T, channels]`.

    2,700 recordings to train on and 300 to test. They have to be computed once: `ranvier data build fsdd-spikes`.

    Args:
        held_out: speakers, separated by commas, that are tested on and not trained on. None: takes 0 to 4 of everyone
            are the test, and the speakers are known.
        T: frames a sample; 1 s holds all but a few recordings. None: as the longest one has (2.3 s).
        dt, channels, binning, values: see `ranvier.data.audio.Binning`.
    """
    folder = located("fsdd-spikes", root, path)
    parts = [read_spike_file(folder / name, SENSOR) for name in FILES]
    rule = Binning(dt, channels, binning, values, SENSOR)
    content = " ".join(stamp(folder / name) for name in FILES)
    if held_out is not None:
        every = SpikeRecordings.join(parts)
        mask = held_out_mask(every.speakers, held_out)
        parts = [every.take(np.flatnonzero(~mask)), every.take(np.flatnonzero(mask))]
    return spike_parts(parts, rule, T, content, len(CLASSES))


def build_fsdd_spikes(
    root: Path | None,
    out: str | None = None,
    jobs: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Compute the spikes of all recordings of `fsdd` and write them as HDF5 files in the layout of SHD.

    Args:
        out: the folder to write to; by default one in the cache, where `fsdd-spikes` is looked for.
        jobs: threads; by default one a core.
        seed: of the fibres' random firing; the result does not depend on `jobs`.

    A build that was interrupted goes on with the recordings that it lacks.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    jobs = cores if jobs is None else jobs
    if not isinstance(jobs, int) or isinstance(jobs, bool) or jobs < 1:
        raise ArgumentError(f"jobs must be a number of threads, got {jobs!r}")
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 1 << 31:
        raise ArgumentError(f"seed must be an integer from 0 to 2**31 − 1, got {seed!r}")
    source = located("fsdd", root, None)
    folder = Path(out).expanduser() if out else _cached(source, seed)
    if all((folder / name).is_file() for name in FILES):
        return folder
    takes = read_takes(Archive(source))
    every = _encoded(takes, cache_key(stamp(source), VERSION, seed), jobs, seed, progress)
    test = takes.test(None)
    for name, part in zip(FILES, (~test, test), strict=True):
        write_spike_file(folder / name, every.take(np.flatnonzero(part)))
    shutil.rmtree(_parts_of(cache_key(stamp(source), VERSION, seed)), ignore_errors=True)
    return folder


def _encoded(
    takes: Takes, key: str, jobs: int, seed: int, progress: Callable[[int, int], None] | None
) -> SpikeRecordings:
    ear = Cochlea(SENSOR)
    parts: list[SpikeRecordings] = []
    total = len(takes.names)
    with ThreadPoolExecutor(jobs, thread_name_prefix="ranvier-ear") as pool:
        for start in range(0, total, CHUNK):
            chunk = range(start, min(start + CHUNK, total))
            found = lookup(_part_kind(key), cache_key(start))
            if found is None:
                trains: list[Any] = []
                for train in _in_order(pool, jobs, ear, takes, chunk, seed):
                    trains.append(train)
                    if progress is not None:
                        progress(start + len(trains), total)
                arrays = {
                    "t": np.concatenate([np.round(s.times * 1e6).astype(np.int32) for s in trains]),
                    "units": np.concatenate([s.units for s in trains]),
                    "first": np.cumsum([0, *(len(s) for s in trains)]),
                }
                found = keep(_part_kind(key), cache_key(start), arrays, {})
            arrays, _ = found
            parts.append(SpikeRecordings(
                arrays["t"], arrays["units"], arrays["first"], takes.labels[chunk.start : chunk.stop],
                takes.speakers[chunk.start : chunk.stop], WORDS,
            ))  # fmt: skip
            if progress is not None:
                progress(chunk.stop, total)
    return SpikeRecordings.join(parts)


def _in_order(
    pool: ThreadPoolExecutor, jobs: int, ear: Cochlea, takes: Takes, chunk: range, seed: int
) -> Iterator[Any]:
    waiting: deque[Future[Any]] = deque()
    try:
        for i in chunk:
            # The random numbers belong to the recording, not to its place in the order.
            own = (seed << 32) | zlib.crc32(takes.names[i].rpartition("/")[2].encode())
            waiting.append(pool.submit(ear, *takes.sound(i), own))
            if len(waiting) > 2 * jobs:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _part_kind(key: str) -> str:
    return f"fsdd-spikes-{key[:16]}/part"


def _parts_of(key: str) -> Path:
    return cache_folder() / "data" / f"fsdd-spikes-{key[:16]}"


def _cached(source: Path, seed: int = 0) -> Path:
    return cache_folder() / "data" / f"fsdd-spikes-v{VERSION}-{cache_key(stamp(source), seed)[:24]}"


def _find(root: Path | None) -> Path | None:
    if (placed := first_existing(root, *(f"fsdd-spikes/{name}" for name in FILES))) is not None:
        return placed.parent
    source = find_fsdd(root)
    if source is None:
        return None
    folder = _cached(source)
    return folder if all((folder / name).is_file() for name in FILES) else None


DATASETS.register("fsdd-spikes")(
    DatasetEntry(
        kind="sequence", load=load_fsdd_spikes, find=_find, build=build_fsdd_spikes,
        how="Compute it once from the recordings of fsdd (some minutes): ranvier data build fsdd-spikes.",
    )
)  # fmt: skip
