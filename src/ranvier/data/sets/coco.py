"""COCO 2017 object detection, and any set in its layout."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranvier.data.archive import Archive
from ranvier.data.bundle import DATASETS, DatasetEntry, Parts, first_existing, located
from ranvier.data.letterbox import BoxFiles, check_size, image_statistics
from ranvier.errors import DataError


def load_coco(root: Path | None, path: str | None = None, size: int = 512, year: str = "2017") -> Parts:
    """COCO (Lin et al., 2014): images `[3, size, size]` and tables of boxes `[M, 6]`; the test part is `val`.

    Read from `annotations/instances_{train,val}<year>.json` and `{train,val}<year>/*.jpg` in a folder or zip. Classes
    are the categories by rising id (80); crowds have level 1. Training images without objects are left out.

    Args:
        size: of the square; the longer side of an image fills it, the rest is black.
    """
    check_size(size)
    archive = Archive(located("coco", root, path))
    documents = {split: _document(archive, f"annotations/instances_{split}{year}.json") for split in ("train", "val")}
    categories = sorted(documents["train"]["categories"], key=lambda c: c["id"])
    rank = {c["id"]: i for i, c in enumerate(categories)}
    train = _part(archive, documents["train"], f"train{year}", size, rank, empty=False)
    test = _part(archive, documents["val"], f"val{year}", size, rank, empty=True)
    mean, std = image_statistics(train)
    names = [*(f"annotations/instances_{split}{year}.json" for split in documents), *train.names, *test.names]
    return Parts(train, test, tuple(str(c["name"]) for c in categories), archive.content(names, read=False), mean, std)


def _document(archive: Archive, name: str) -> dict[str, Any]:
    if name not in archive.members:
        raise DataError(f"{archive.where(name)}: is missing; it is the layout of COCO")
    try:
        document = json.loads(archive.read(name))
        if not all(isinstance(document[key], list) for key in ("images", "annotations", "categories")):
            raise TypeError("images, annotations and categories must be lists")
        if not all(isinstance(c["id"], int) and isinstance(c["name"], str) for c in document["categories"]):
            raise TypeError("a category has an id and a name")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{archive.where(name)}: is not a document of COCO annotations ({error!r})") from error
    return document


def _part(
    archive: Archive, document: dict[str, Any], folder: str, size: int, rank: dict[int, int], empty: bool
) -> BoxFiles:  # fmt: skip
    rows: dict[int, list[tuple[list[float], int, int]]] = {}
    where = f"{archive.path}: annotations of {folder}"
    try:
        for note in document["annotations"]:
            x, y, w, h = (float(v) for v in note["bbox"])
            if not all(map(math.isfinite, (x, y, w, h))):
                raise ValueError(f"the box {note['bbox']!r:.60}")
            if w > 0 and h > 0:
                kind = rank[note["category_id"]]
                rows.setdefault(note["image_id"], []).append(([x, y, x + w, y + h], kind, int(note.get("iscrowd", 0))))
        images = sorted(document["images"], key=lambda image: image["id"])
        kept = [(f"{folder}/{image['file_name']}", rows.get(image["id"], [])) for image in images]
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise DataError(f"{where}: lack a key, or name an unknown category ({error!r})") from error
    kept = [(name, own) for name, own in kept if empty or any(not crowd for _, _, crowd in own)]
    missing = next((name for name, _ in kept if name not in archive.members), None)
    if missing is not None or not kept:
        raise DataError(f"{where}: name {missing}, which is not there" if missing else f"{where}: have no objects")

    def column(own: list[tuple[list[float], int, int]], place: int, kind: type) -> NDArray[Any]:
        return np.array([row[place] for row in own], kind)

    boxes = [column(own, 0, np.float32).reshape(-1, 4) for _, own in kept]
    kinds, crowds = ([column(own, place, np.int64) for _, own in kept] for place in (1, 2))
    return BoxFiles(archive, [name for name, _ in kept], size, boxes, kinds, crowds)


DATASETS.register("coco")(
    DatasetEntry(
        kind="static", task="detection", load=load_coco,
        find=lambda root: first_existing(root, "coco", "COCO", "coco2017"),
        how="Unpack train2017.zip, val2017.zip and annotations_trainval2017.zip in <data folder>/coco.",
    )
)  # fmt: skip
