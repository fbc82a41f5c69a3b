"""CEP-DVS: pictures of twenty classes of CIFAR-100 on a screen, as photographs and as events of the same camera."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ranvier.data.archive import Archive
from ranvier.data.bundle import DATASETS, DatasetEntry, Parts, first_existing, located
from ranvier.data.events import Events
from ranvier.data.events.folders import Binning, FileRecordings, kept_frames
from ranvier.data.events.mat import read_mat
from ranvier.data.images import EXTENSIONS
from ranvier.data.squash import by_share, squashed
from ranvier.data.statistics import channel_statistics
from ranvier.errors import DataError

CLASSES = (
    "aquatic_mammals", "fish", "flowers", "food_containers", "fruit_and_vegetables", "household_electrical_devices",
    "household_furniture", "insects", "large_carnivores", "large_man-made_outdoor_things",
    "large_natural_outdoor_scenes", "large_omnivores_and_herbivores", "medium_mammals", "non-insect_invertebrates",
    "people", "reptiles", "small_mammals", "trees", "vehicles_1", "vehicles_2",
)  # fmt: skip
TRAIN_SHARE, TEST_SHARE = 0.5, 0.2
_TABLE, _CLASS_WORD = "pathFile.csv", 4


def _labels(archive: Archive) -> list[int]:
    """The class of every picture, from the table of the data set: the fifth word of its line."""
    name = next((n for n in archive.members if n.rpartition("/")[2] == _TABLE), None)
    if name is None:
        raise DataError(f"{archive.path}: has no {_TABLE}")
    labels: list[int] = []
    lines = archive.read(name).decode("utf-8", errors="replace").splitlines()[1:]
    for number, line in enumerate(lines):
        words = line.replace(",", " ").split()
        word = next((w for w in words[_CLASS_WORD : _CLASS_WORD + 1] if w in CLASSES), None)
        word = word or next((w for w in words if w in CLASSES), None)
        if word is None:
            raise DataError(f"{archive.where(name)}: line {number + 2} names none of the twenty classes: {line[:80]!r}")
        labels.append(CLASSES.index(word))
    return labels


def _numbered(archive: Archive, folder: str, endings: tuple[str, ...]) -> tuple[list[str], list[int], list[str]]:
    """Files, labels and keys in the order of the numbers of the pictures."""
    table = _labels(archive)
    found: list[tuple[int, str]] = []
    for name in archive.members:
        place, _, file = name.rpartition("/")
        stem = file.rpartition(".")[0]
        if not (f"/{place}/".endswith(f"/{folder}/") and file.lower().endswith(endings)):
            continue
        if folder == "data/img" and "/MAT/" in f"/{place}/":
            continue
        if not stem.isdigit() or int(stem) >= len(table):
            raise DataError(
                f"{archive.where(name)}: is not called by a number below {len(table)}, the lines of {_TABLE}"
            )
        found.append((int(stem), name))
    if not found:
        raise DataError(f"{archive.path}: has no {' or '.join(endings[:2])} files in {folder}/")
    found.sort()
    return [name for _, name in found], [table[n] for n, _ in found], [str(n) for n, _ in found]


def load_cep_images(root: Path | None, path: str | None = None, size: int = 48) -> Parts:
    """The photographs of CEP-DVS, `[3, size, size]`: half of every class to train, the next fifth to test.

    Read from `data/img/<number>.png` (or .jpg) and `pathFile.csv`, which lists the classes, in a folder or zip
    `CEP-DVS`.
    """
    archive = Archive(located("cep_images", root, path))
    names, labels, keys = _numbered(archive, "data/img", EXTENSIONS)
    samples: list[Any] = []
    for rows in by_share(labels, TRAIN_SHARE, TEST_SHARE):
        part = squashed("cep_images", archive, [names[i] for i in rows], [labels[i] for i in rows], size, 3)
        part.keys = [keys[i] for i in rows]
        samples.append(part)
    mean, std = channel_statistics(samples[0].values.numpy())
    return Parts(samples[0], samples[1], CLASSES, archive.content(names, read=False), mean, std)


def load_cep_dvs(
    root: Path | None,
    path: str | None = None,
    T: int = 6,
    size: int = 48,
    split_by: Literal["time", "count"] = "time",
    in_memory: bool | Literal["auto"] = "auto",
) -> Parts:
    """The recordings of CEP-DVS (Deng et al. 2021) as counts `[T, 2, size, size]`, split as `cep_images`.

    Read from `data/MAT/img/<number>.mat` (arrays x, y, ts and p) and `pathFile.csv`, which lists the classes, in a
    folder or zip `CEP-DVS`. 500 recordings a class: 250 to train, 100 to test. Frames have the extent of their
    recording and are resized.

    Args:
        split_by, in_memory: as in `ncaltech101`.
    """
    binning = Binning(T, size, split_by)
    archive = Archive(located("cep_dvs", root, path))
    names, labels, keys = _numbered(archive, "data/MAT/img", (".mat",))
    files: dict[str, FileRecordings] = {}
    for part, rows in zip(("train", "test"), by_share(labels, TRAIN_SHARE, TEST_SHARE), strict=True):
        reader = partial(_read, archive, [names[i] for i in rows])
        files[part] = FileRecordings(reader, [labels[i] for i in rows], [keys[i] for i in rows], binning)
    content = archive.content(names, read=False)
    samples = kept_frames("cep_dvs", files, f"{archive.path} {content}", in_memory, T, size, split_by)
    return Parts(samples["train"], samples["test"], CLASSES, content)


def _read(archive: Archive, names: list[str], number: int) -> Events:
    name = names[number]
    where = archive.where(name)
    table = read_mat(archive.read(name), where)
    if missing := [key for key in ("x", "y", "ts", "p") if key not in table]:
        raise DataError(f"{where}: holds no numbers called {', '.join(missing)}")
    if not all(np.isfinite(table[key]).all() and len(table[key]) == len(table["ts"]) for key in ("x", "y", "ts", "p")):
        raise DataError(f"{where}: x, y, ts and p must be finite and equally many")
    arrays = {key: table[key].astype(np.int64) for key in ("x", "y", "ts", "p")}
    order = np.argsort(arrays["ts"], kind="stable")
    x, y, t, p = (arrays[key][order] for key in ("x", "y", "ts", "p"))
    try:
        return Events(t, x, y, (p > 0).astype(np.uint8))  # pyright: ignore[reportArgumentType]
    except DataError as error:
        raise DataError(f"{where}: {error}") from error


def _find(root: Path | None) -> Path | None:
    return first_existing(root, "CEP-DVS", "CEPDVS", "cep_dvs", "CEP-DVS.zip")


_HOW = "Unpack CEP-DVS (pathFile.csv and the folder data) into <data folder>/CEP-DVS."
DATASETS.register("cep_images")(DatasetEntry(kind="static", load=load_cep_images, find=_find, how=_HOW))
DATASETS.register("cep_dvs")(DatasetEntry(kind="event", load=load_cep_dvs, find=_find, how=_HOW))
