"""The Spiking Heidelberg Digits and the Spiking Speech Commands, from their official HDF5 files."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from ranvier.data.archive import stamp
from ranvier.data.audio.bins import Binning, SpikeSamples, frame_counts
from ranvier.data.audio.spike_file import read_spike_file
from ranvier.data.audio.spikes import SpikeRecordings
from ranvier.data.bundle import DATASETS, DatasetEntry, Parts, first_existing, located
from ranvier.data.cache import cache_key, keep, lookup
from ranvier.errors import ArgumentError, DataError

_log = logging.getLogger(__name__)
SENSOR = 700


def load_shd(
    root: Path | None,
    path: str | None = None,
    T: int | None = None,
    dt: float = 10.0,
    channels: int = 140,
    binning: Literal["grid", "absolute", "event"] = "grid",
    values: Literal["count", "binary"] = "count",
    empty: bool = False,
) -> Parts:
    """Spoken digits in German and English, 20 classes, as spikes of 700 channels (Cramer et al. 2022): `[T, channels]`.

    Read from `shd_train.h5` and `shd_test.h5` in a folder at `path`, or called `SHD` or `shd`, or in the data folder
    itself. Two speakers of the test part are not in the train part; there is no validation part.

    Args:
        T: frames a sample: shorter recordings end in zeros, longer ones are cut. None: as the longest recording has.
        dt, channels, binning, values: see `ranvier.data.audio.Binning`.
        empty: keep recordings without events, instead of an error that names the first one.
    """
    folder = located("shd", root, path)
    rule = Binning(dt, channels, binning, values, SENSOR)
    train, test = (_recordings(folder / f"shd_{part}.h5", 20, empty) for part in ("train", "test"))
    return spike_parts((train, test), rule, T, _stamps(folder, "shd", ("train", "test")), 20)


def load_ssc(
    root: Path | None,
    path: str | None = None,
    T: int | None = None,
    dt: float = 10.0,
    channels: int = 140,
    binning: Literal["grid", "absolute", "event"] = "grid",
    values: Literal["count", "binary"] = "count",
    empty: bool = False,
) -> Parts:
    """Spoken words, 35 classes, as spikes of 700 channels (Cramer et al. 2022): `[T, channels]`.

    Read from `ssc_train.h5`, `ssc_valid.h5` and `ssc_test.h5` in a folder at `path`, or called `SSC` or `ssc`, or in
    the data folder itself. Options as of the data set `shd`.
    """
    folder = located("ssc", root, path)
    rule = Binning(dt, channels, binning, values, SENSOR)
    names = ("train", "test", "valid")
    parts = tuple(_recordings(folder / f"ssc_{part}.h5", 35, empty) for part in names)
    return spike_parts(parts, rule, T, _stamps(folder, "ssc", names), 35)


def spike_parts(
    parts: Sequence[SpikeRecordings], binning: Binning, T: int | None, content: str, classes: int
) -> Parts:  # fmt: skip
    """Train, test and (when there is a third) validation part of recordings; the first has the names of the labels."""
    if T is not None and (not isinstance(T, int) or isinstance(T, bool) or T < 1):
        raise ArgumentError(f"T must be a number of frames or None, got {T!r}")
    steps = T or max(int(frame_counts(part, binning).max()) for part in parts)
    samples = [SpikeSamples(part, binning, steps) for part in parts]
    keys = parts[0].keys if len(parts[0].keys) == classes else tuple(str(i) for i in range(classes))
    return Parts(samples[0], samples[1], keys, content, validation=samples[2] if len(samples) > 2 else None)


def _stamps(folder: Path, name: str, parts: Sequence[str]) -> str:
    return " ".join(stamp(folder / f"{name}_{part}.h5") for part in parts)


def _recordings(path: Path, classes: int, empty: bool) -> SpikeRecordings:
    """The recordings of a file, decoded once and kept in the cache as flat arrays that are mapped, not read."""
    if not path.is_file():
        packed = path.with_name(path.name + ".gz")
        hint = f"; unpack {packed.name} first (gunzip)" if packed.is_file() else ""
        raise DataError(f"{path}: there is no such file{hint}")
    key = cache_key(stamp(path), SENSOR, empty, 1)
    found = lookup("spikes", key)
    if found is None:
        _log.info("decoding %s; the next time it comes from the cache", path)
        read = read_spike_file(path, SENSOR, empty)
        if int(read.labels.min()) < 0 or int(read.labels.max()) >= classes:
            bad = int(((read.labels < 0) | (read.labels >= classes)).argmax())
            raise DataError(f"{path}: recording {bad} has the label {read.labels[bad]}; expected 0 to {classes - 1}")
        arrays = {"t": read.t, "units": read.units, "first": read.first, "labels": read.labels}
        found = keep("spikes", key, arrays, {"speakers": read.speakers, "keys": read.keys})
    arrays, notes = found
    return SpikeRecordings(
        arrays["t"], arrays["units"], np.asarray(arrays["first"]), np.asarray(arrays["labels"]),
        tuple(notes["speakers"]), tuple(notes["keys"]),
    )  # fmt: skip


def _find(name: str, root: Path | None) -> Path | None:
    file = f"{name}_train.h5"
    found = first_existing(root, f"{name.upper()}/{file}", f"{name}/{file}", file)
    return None if found is None else found.parent


DATASETS.register("shd")(
    DatasetEntry(
        kind="sequence", load=load_shd, find=lambda root: _find("shd", root),
        how="Unpack shd_train.h5.gz and shd_test.h5.gz of the Spiking Heidelberg Digits into <data folder>/SHD.",
    )
)  # fmt: skip
DATASETS.register("ssc")(
    DatasetEntry(
        kind="sequence", load=load_ssc, find=lambda root: _find("ssc", root),
        how="Unpack ssc_train.h5.gz, ssc_valid.h5.gz and ssc_test.h5.gz of the Spiking Speech Commands into <data "
        "folder>/SSC.",
    )
)  # fmt: skip
