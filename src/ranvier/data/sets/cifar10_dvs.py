"""CIFAR10-DVS: a thousand images of every class of CIFAR-10, moved on a screen in front of an event camera."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from ranvier.data.archive import Archive
from ranvier.data.bundle import DATASETS, DatasetEntry, Parts, first_existing, located
from ranvier.data.events import Events
from ranvier.data.events.aedat2 import read_aedat2
from ranvier.data.events.folders import Binning, FileRecordings, kept_frames
from ranvier.data.sets.cifar10 import CLASSES
from ranvier.data.squash import by_share
from ranvier.errors import DataError

SENSOR = (128, 128)
TRAIN_SHARE = 0.9
_NAME = re.compile(r"cifar10_([a-z]+)_(\d+)\.aedat$")


def load_cifar10_dvs(
    root: Path | None,
    path: str | None = None,
    T: int = 10,
    size: int | None = 48,
    split_by: Literal["time", "count"] = "time",
    in_memory: bool | Literal["auto"] = "auto",
) -> Parts:
    """10,000 recordings as counts `[T, 2, size, size]` (Li et al. 2017): the first 90 % of every class train.

    Read from `<class>/cifar10_<class>_<number>.aedat` in a folder or zip `CIFAR10-DVS`, `cifar10_dvs` or `DVS_Cifar10`.
    The sensor stood on its side: frames are upright here, and ON is brighter. Which image of CIFAR-10 a recording shows
    is not published, so that an image of a test recording may be among the training images of CIFAR-10.

    Args:
        size: side of the frames; None keeps 128.
        split_by, in_memory: as in `ncaltech101`.
    """
    binning = Binning(T, size, split_by, sensor=SENSOR)
    archive = Archive(located("cifar10_dvs", root, path))
    found: list[tuple[int, int, str]] = []
    for name in archive.members:
        if name.endswith(".aedat"):
            match = _NAME.search(name)
            if match is None or match[1] not in CLASSES:
                raise DataError(f"{archive.where(name)}: is not called cifar10_<class>_<number>.aedat")
            found.append((CLASSES.index(match[1]), int(match[2]), name))
    if not found:
        raise DataError(f"{archive.path}: has no cifar10_<class>_<number>.aedat")
    found.sort()
    labels = [label for label, *_ in found]
    files: dict[str, FileRecordings] = {}
    for part, rows in zip(("train", "test"), by_share(labels, TRAIN_SHARE), strict=True):
        reader = partial(_read, archive, [found[i][2] for i in rows])
        files[part] = FileRecordings(reader, [labels[i] for i in rows], None, binning)
    content = archive.content([name for *_, name in found], read=False)
    samples = kept_frames("cifar10_dvs", files, f"{archive.path} {content}", in_memory, T, size, split_by)
    return Parts(samples["train"], samples["test"], CLASSES, content)


def _read(archive: Archive, names: list[str], number: int) -> Events:
    events = read_aedat2(archive.read(names[number]), archive.where(names[number]), SENSOR)
    x, y = np.uint16(127) - events.y, np.uint16(127) - events.x
    return Events(events.t, x, y, np.uint8(1) - events.p)


def _find(root: Path | None) -> Path | None:
    names = ("CIFAR10-DVS", "CIFAR10DVS", "cifar10_dvs", "DVS_Cifar10")
    return first_existing(root, *names, *(f"{name}.zip" for name in names))


DATASETS.register("cifar10_dvs")(
    DatasetEntry(
        kind="event", load=load_cifar10_dvs, find=_find,
        how="Unpack the ten official archives (airplane.zip, ...) into <data folder>/CIFAR10-DVS.",
    )
)  # fmt: skip
