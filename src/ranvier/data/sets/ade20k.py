"""ADE20K's scene parsing benchmark: 150 classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ranvier.data.archive import Archive
from ranvier.data.bundle import DATASETS, DatasetEntry, Parts, first_existing, located
from ranvier.data.letterbox import MapFiles, check_size, image_statistics
from ranvier.errors import DataError

COUNT = 150


def load_ade20k(root: Path | None, path: str | None = None, size: int = 512) -> Parts:
    """ADE20K (Zhou et al., 2017): images `[3, size, size]` and maps of 150 classes; the test part is `validation`.

    Read from `images/{training,validation}/*.jpg` and `annotations/{training,validation}/*.png` in a folder or zip, as
    ADEChallengeData2016 has them; stored 0 ("other") does not count. Names come from `objectInfo150.txt` where it is.

    Args:
        size: of the square; the longer side of an image fills it, the rest is black and does not count.
    """
    check_size(size)
    archive = Archive(located("ade20k", root, path))
    names = {split: _pairs(archive, split) for split in ("training", "validation")}
    train, test = (MapFiles(archive, pairs, size, _classes, COUNT) for pairs in names.values())
    mean, std = image_statistics(train)
    content = archive.content([n for pairs in names.values() for pair in pairs for n in pair], read=False)
    return Parts(train, test, _names(archive), content, mean, std)


def _pairs(archive: Archive, split: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for name in archive.members:
        folder, _, file = name.rpartition("/")
        if not folder.endswith(f"images/{split}") or not file.endswith(".jpg"):
            continue
        drawn = f"{folder.removesuffix(f'images/{split}')}annotations/{split}/{file[:-4]}.png"
        if drawn not in archive.members:
            raise DataError(f"{archive.where(name)}: has no {drawn}")
        found.append((name, drawn))
    if not found:
        raise DataError(f"{archive.path}: has no images/{split}/*.jpg, the layout of ADEChallengeData2016")
    return found


def _classes(stored: NDArray[np.int64]) -> NDArray[np.int64]:
    return stored - 1


def _names(archive: Archive) -> tuple[str, ...]:
    listing = next((name for name in archive.members if name.endswith("objectInfo150.txt")), None)
    if listing is not None:
        rows = [line.split("\t") for line in archive.read(listing).decode("utf-8", errors="replace").splitlines()[1:]]
        names = [row[-1].split(",")[0].strip() for row in rows if len(row) > 1]
        if len(names) == COUNT:
            return tuple(names)
    return tuple(f"class {i}" for i in range(1, COUNT + 1))


DATASETS.register("ade20k")(
    DatasetEntry(
        kind="static", task="segmentation", load=load_ade20k,
        find=lambda root: first_existing(root, "ADEChallengeData2016", "ade20k", "ADEChallengeData2016.zip"),
        how="Put ADEChallengeData2016.zip in the data folder, or unpack it there.",
    )
)  # fmt: skip
