"""Caltech101 and N-Caltech101, its recordings by a moving event camera, split alike."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Literal

from ranvier.data.archive import Archive
from ranvier.data.bundle import DATASETS, DatasetEntry, Parts, first_existing, located
from ranvier.data.events import Events
from ranvier.data.events.folders import Binning, FileRecordings, kept_frames
from ranvier.data.images import EXTENSIONS
from ranvier.data.sets.nmnist import read_recording
from ranvier.data.squash import by_share, squashed
from ranvier.data.statistics import channel_statistics
from ranvier.errors import ArgumentError, DataError

SENSOR = (240, 256)  # what five bytes an event can say; recordings are smaller, each of its own size
TRAIN_SHARE = 0.9
_TWICE = "Faces"  # its pictures are in Faces_easy, cut out; they were not recorded


def _members(archive: Archive, endings: tuple[str, ...], background: bool) -> tuple[list[str], list[str]]:
    """Files and their classes, class by class, in the order of their names."""
    found: list[tuple[str, str, str]] = []
    for name in archive.members:
        *folders, file = name.split("/")
        if "annotation" in name.lower() or not file.lower().endswith(endings) or not folders:
            continue
        if folders[-1] != _TWICE and (background or folders[-1] != "BACKGROUND_Google"):
            found.append((folders[-1], file, name))
    if not found:
        raise DataError(f"{archive.path}: has no {' or '.join(endings[:2])} files in folders of classes")
    found.sort()
    return [name for *_, name in found], [label for label, *_ in found]


def _split(labels: list[str]) -> tuple[tuple[str, ...], list[int], tuple[list[int], list[int]]]:
    classes = tuple(sorted(set(labels)))
    numbers = [classes.index(label) for label in labels]
    return classes, numbers, by_share(numbers, TRAIN_SHARE)


def _keys(names: list[str]) -> list[str]:
    """Pictures by class and number: `anchor/image_0001`."""
    return ["/".join(name.split("/")[-2:]).rpartition(".")[0] for name in names]


def load_caltech101(root: Path | None, path: str | None = None, size: int = 48, background: bool = True) -> Parts:
    """Images of 101 classes, `[3, size, size]` (Fei-Fei et al. 2004); the first 90 % of every class train.

    Read from `<class>/image_0001.jpg` in a folder or zip `101_ObjectCategories`, `caltech101` or `Caltech101`. "Faces"
    is left out, as in N-Caltech101 (8,709 pictures with the background class).

    Args:
        size: side in pixels; the whole picture is resized to it.
        background: with the class BACKGROUND_Google.
    """
    place = located("caltech101", root, path)
    archive = Archive(place)
    names, labels = _members(archive, EXTENSIONS, background)
    classes, numbers, split = _split(labels)
    samples: list[Any] = []
    for rows in split:
        files = [names[i] for i in rows]
        part = squashed("caltech101", archive, files, [numbers[i] for i in rows], size, 3)
        part.keys = _keys(files)
        samples.append(part)
    mean, std = channel_statistics(samples[0].values.numpy())
    return Parts(samples[0], samples[1], classes, archive.content(names, read=False), mean, std)


def load_ncaltech101(
    root: Path | None,
    path: str | None = None,
    T: int = 10,
    size: int = 48,
    background: bool = True,
    split_by: Literal["time", "count"] = "time",
    in_memory: bool | Literal["auto"] = "auto",
) -> Parts:
    """Recordings of Caltech101 as counts `[T, 2, size, size]` (Orchard et al. 2015); the first 90 % of a class train.

    Read from `<class>/image_0001.bin`, five bytes an event, in a folder or zip `N-Caltech101`, `ncaltech101`,
    `NCALTECH101` or `Caltech101` within it. Frames have the extent of their recording and are resized to `size`; they
    are not divided by anything. 8,709 recordings with the background class: 7,839 to train and 870 to test.

    Args:
        split_by: windows of equal "time" or of equal event "count".
        in_memory: bin everything once (and keep it in the cache), or bin every batch anew; "auto" decides by the size
            of the frames, 2 GiB.
    """
    if not isinstance(background, bool):
        raise ArgumentError(f"background must be true or false, got {background!r}")
    binning = Binning(T, size, split_by)
    archive = Archive(located("ncaltech101", root, path))
    names, labels = _members(archive, (".bin",), background)
    classes, numbers, split = _split(labels)
    files: dict[str, FileRecordings] = {}
    for part, rows in zip(("train", "test"), split, strict=True):
        own = [names[i] for i in rows]
        reader = partial(_read, archive, own)
        files[part] = FileRecordings(reader, [numbers[i] for i in rows], _keys(own), binning)
    content = archive.content(names, read=False)
    samples = kept_frames("ncaltech101", files, f"{archive.path} {content}", in_memory, T, size, split_by)
    return Parts(samples["train"], samples["test"], classes, content)


def _read(archive: Archive, names: list[str], number: int) -> Events:
    return read_recording(archive.read(names[number]), archive.where(names[number]), SENSOR)


def _find(root: Path | None, names: tuple[str, ...]) -> Path | None:
    return first_existing(root, *names, *(f"{name}.zip" for name in names))


DATASETS.register("caltech101")(
    DatasetEntry(
        kind="static", load=load_caltech101,
        find=lambda root: _find(root, ("101_ObjectCategories", "caltech101", "Caltech101")),
        how="Unpack 101_ObjectCategories.tar.gz of the official caltech-101.zip into the data folder.",
    )
)  # fmt: skip
DATASETS.register("ncaltech101")(
    DatasetEntry(
        kind="event", load=load_ncaltech101,
        find=lambda root: _find(root, ("N-Caltech101", "ncaltech101", "NCALTECH101", "N-Caltech101-archive")),
        how="Unpack the official Caltech101.zip of recordings into <data folder>/N-Caltech101.",
    )
)  # fmt: skip
