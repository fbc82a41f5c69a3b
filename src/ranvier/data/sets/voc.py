"""PASCAL VOC 2012, semantic segmentation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ranvier.data.archive import Archive
from ranvier.data.bundle import DATASETS, DatasetEntry, Parts, first_existing, located
from ranvier.data.letterbox import MapFiles, check_size, image_statistics
from ranvier.data.targets import IGNORED
from ranvier.errors import DataError

CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


def load_voc(root: Path | None, path: str | None = None, size: int = 512) -> Parts:
    """VOC 2012 (Everingham et al.): images `[3, size, size]` and maps of 21 classes; the test part is `val`.

    Read from the layout of the official archive, `JPEGImages`, `SegmentationClass` and `ImageSets/Segmentation` (also
    with the 10,582 images of SBD's `trainaug.txt` and `SegmentationClassAug`), in a folder or zip. The outlines
    (value 255) do not count.

    Args:
        size: of the square; the longer side of an image fills it, the rest is black and does not count.
    """
    check_size(size)
    archive = Archive(located("voc", root, path))
    base = next((m[: -len("ImageSets/Segmentation/train.txt")] for m in archive.members
                 if m.endswith("ImageSets/Segmentation/train.txt")), None)  # fmt: skip
    if base is None:
        raise DataError(f"{archive.path}: has no ImageSets/Segmentation/train.txt, the layout of VOC")
    more = f"{base}ImageSets/Segmentation/trainaug.txt" in archive.members
    parts = {
        "train": _names(archive, base, "trainaug" if more else "train", "SegmentationClassAug" if more else None),
        "val": _names(archive, base, "val", None),
    }
    train, test = (MapFiles(archive, names, size, _classes, len(CLASSES)) for names in parts.values())
    mean, std = image_statistics(train)
    content = archive.content([n for names in parts.values() for pair in names for n in pair], read=False)
    return Parts(train, test, CLASSES, content, mean, std)


def _names(archive: Archive, base: str, split: str, folder: str | None) -> list[tuple[str, str]]:
    listing = f"{base}ImageSets/Segmentation/{split}.txt"
    if listing not in archive.members:
        raise DataError(f"{archive.where(listing)}: is missing")
    pairs: list[tuple[str, str]] = []
    for name in archive.read(listing).decode("ascii", errors="replace").split():
        places = [f"{base}{f}/{name}.png" for f in (folder, "SegmentationClass") if f]
        image, drawn = f"{base}JPEGImages/{name}.jpg", next((p for p in places if p in archive.members), places[-1])
        for member in (image, drawn):
            if member not in archive.members:
                raise DataError(f"{archive.where(listing)}: names {name}, but {member} is not there")
        pairs.append((image, drawn))
    if not pairs:
        raise DataError(f"{archive.where(listing)}: names no images")
    return pairs


def _classes(stored: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.where(stored == 255, IGNORED, stored)


DATASETS.register("voc")(
    DatasetEntry(
        kind="static", task="segmentation", load=load_voc,
        find=lambda root: first_existing(root, "VOCdevkit/VOC2012", "VOC2012", "VOCdevkit", "voc", "VOC2012.zip"),
        how="Unpack VOCtrainval_11-May-2012.tar in the data folder (VOCdevkit/VOC2012).",
    )
)  # fmt: skip
