"""Omniglot and N-Omniglot: 1,623 characters, drawn twenty times each, as images and as events of their strokes."""

from __future__ import annotations

import csv
import io
import re
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ranvier.data.archive import Archive, stamp
from ranvier.data.bundle import DATASETS, DatasetEntry, Parts, first_existing, located
from ranvier.data.events import Events, read_events
from ranvier.data.events.folders import Binning, FileRecordings, kept_frames
from ranvier.data.images import EXTENSIONS
from ranvier.data.squash import squashed
from ranvier.data.statistics import channel_statistics
from ranvier.errors import DataError

SENSOR = (260, 346)
CROP = (4, 254, 54, 304)
DRAWERS, TRAIN_DRAWERS = 20, 15
_HALVES = ("background", "evaluation")
_DRAWN = re.compile(r"_(\d+)$")


def _class_order(names: list[tuple[int, str, str]]) -> tuple[str, ...]:
    """Characters as `<alphabet>/<character>`, the background alphabets before those of the evaluation set."""
    return tuple(f"{alphabet}/{character}" for _, alphabet, character in sorted(set(names)))


def load_omniglot(root: Path | None, path: str | None = None, size: int = 28) -> Parts:
    """Images of 1,623 characters, `[1, size, size]` (Lake et al. 2015): drawers 1 to 15 train, 16 to 20 test.

    Read from `images_background/<alphabet>/character01/0001_01.png` and `images_evaluation/...` in a folder or zip
    `omniglot`, `Omniglot` or `omniglot-py`. Strokes are dark on white, as published.
    """
    archive = Archive(located("omniglot", root, path))
    found: list[tuple[tuple[int, str, str], int, str]] = []
    for name in archive.members:
        parts = name.split("/")
        if len(parts) < 4 or not parts[-1].lower().endswith(EXTENSIONS) or not parts[-4].startswith("images_"):
            continue
        drawn = _DRAWN.search(parts[-1].rpartition(".")[0])
        half = parts[-4].removeprefix("images_")
        if drawn is None or half not in _HALVES or not 1 <= int(drawn[1]) <= DRAWERS:
            raise DataError(f"{archive.where(name)}: is not images_background/<alphabet>/<character>/<id>_<drawer>.png")
        found.append(((_HALVES.index(half), parts[-3], parts[-2]), int(drawn[1]), name))
    if not found:
        raise DataError(f"{archive.path}: has no images_background/<alphabet>/<character>/<id>_<drawer>.png")
    classes = _class_order([character for character, *_ in found])
    samples: list[Any] = []
    for train in (True, False):
        own = sorted(entry for entry in found if (entry[1] <= TRAIN_DRAWERS) == train)
        if not own:
            raise DataError(f"{archive.path}: has no images of drawers {'1 to 15' if train else '16 to 20'}")
        labels = [classes.index(f"{alphabet}/{character}") for (_, alphabet, character), *_ in own]
        part = squashed("omniglot", archive, [name for *_, name in own], labels, size, 1)
        part.keys = [f"{alphabet}/{character}/{drawer}" for (_, alphabet, character), drawer, _ in own]
        samples.append(part)
    mean, std = channel_statistics(samples[0].values.numpy())
    return Parts(samples[0], samples[1], classes, archive.content(sorted(n for *_, n in found), read=False), mean, std)


def load_nomniglot(
    root: Path | None,
    path: str | None = None,
    T: int = 12,
    size: int = 28,
    values: Literal["frequency", "count"] = "frequency",
    in_memory: bool | Literal["auto"] = "auto",
) -> Parts:
    """Recordings of 1,623 characters, `[T, 2, size, size]` (Li et al. 2022): drawers 1 to 15 train, 16 to 20 test.

    Read from the folder `N-Omniglot`, `nomniglot` or `NOmniglot` with `dvs_background/<alphabet>/character01/` and
    `dvs_evaluation/...`, each with an `.aedat4` of all twenty drawings and a `.csv` whose lines hold the number, the
    first and the last microsecond of each. The centre of 250 x 250 pixels is resized.

    Args:
        values: "count", or "frequency": each frame and polarity divided by its largest count.
        in_memory: as in `ncaltech101`.
    """
    if values not in ("frequency", "count"):
        raise DataError(f"values must be 'frequency' or 'count', got {values!r}")
    place = located("nomniglot", root, path)
    binning = Binning(T, size, sensor=SENSOR, crop=CROP, peak=values == "frequency")
    recordings: list[tuple[tuple[int, str, str], Path, list[tuple[int, int]]]] = []
    for half, name in enumerate(_HALVES):
        for folder in sorted((place / f"dvs_{name}").glob("*/*")):
            if folder.is_dir():
                recordings.append(((half, folder.parent.name, folder.name), *_drawings(folder)))
    if not recordings:
        raise DataError(f"{place}: has no dvs_background/<alphabet>/<character>/ with recordings")
    classes = _class_order([character for character, *_ in recordings])
    files: dict[str, FileRecordings] = {}
    for part, drawers in (("train", range(TRAIN_DRAWERS)), ("test", range(TRAIN_DRAWERS, DRAWERS))):
        entries: list[tuple[Path, tuple[int, int]]] = []
        labels: list[int] = []
        keys: list[str] = []
        for (_, alphabet, character), file, spans in recordings:
            for drawer in drawers:
                entries.append((file, spans[drawer]))
                labels.append(classes.index(f"{alphabet}/{character}"))
                keys.append(f"{alphabet}/{character}/{drawer + 1}")
        files[part] = FileRecordings(partial(_read, entries), labels, keys, binning)
    content = stamp(place)
    samples = kept_frames("nomniglot", files, content, in_memory, T, size, values)
    return Parts(samples["train"], samples["test"], classes, content)


def _drawings(folder: Path) -> tuple[Path, list[tuple[int, int]]]:
    """The recording of a character and the first and last microsecond of each drawing."""
    recordings, tables = sorted(folder.glob("*.aedat4")), sorted(folder.glob("*.csv"))
    if not recordings or not tables:
        raise DataError(f"{folder}: needs an .aedat4 and a .csv with the times of its drawings")
    spans: list[tuple[int, int]] = []
    try:
        for row in list(csv.reader(io.StringIO(tables[0].read_text(encoding="utf-8"))))[1:]:
            if row:
                spans.append((int(row[1]), int(row[2])))
    except (OSError, ValueError, IndexError, csv.Error) as error:
        raise DataError(f"{tables[0]}: is not a table of number, first and last microsecond: {error}") from error
    if len(spans) != DRAWERS or any(stop <= start for start, stop in spans):
        raise DataError(f"{tables[0]}: names {len(spans)} drawings; expected {DRAWERS}, each ending after it begins")
    return recordings[0], spans


@lru_cache(maxsize=2)
def _whole(file: Path) -> Events:
    return read_events(file)[0]


def _read(entries: list[tuple[Path, tuple[int, int]]], number: int) -> Events:
    file, (start, stop) = entries[number]
    events = _whole(file)
    first, last = np.searchsorted(events.t, [start, stop])
    if first == last:
        raise DataError(f"{file}: has no events from {start} to {stop} microseconds, where its table has a drawing")
    return events[int(first) : int(last)]


DATASETS.register("omniglot")(
    DatasetEntry(
        kind="static", load=load_omniglot,
        find=lambda root: first_existing(root, "omniglot", "Omniglot", "omniglot-py", "omniglot.zip"),
        how="Unpack the official images_background.zip and images_evaluation.zip into <data folder>/omniglot.",
    )
)  # fmt: skip
DATASETS.register("nomniglot")(
    DatasetEntry(
        kind="event", load=load_nomniglot,
        find=lambda root: first_existing(root, "N-Omniglot", "nomniglot", "NOmniglot"),
        how="Unpack the official dvs_background and dvs_evaluation into <data folder>/N-Omniglot.",
    )
)  # fmt: skip
