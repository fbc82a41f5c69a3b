"""Any folder or zip of images, `train/<class>/*.png` and `test/<class>/*.png`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from ranvier.data.archive import Archive, stamp
from ranvier.data.bundle import DATASETS, DatasetEntry, Parts, located
from ranvier.data.cache import Arrays, Notes, cache_key, keep, lookup
from ranvier.data.images import EXTENSIONS, ImageFileSamples, decode, decode_members
from ranvier.data.samples import ArraySamples
from ranvier.data.statistics import channel_statistics
from ranvier.errors import ArgumentError, DataError
from ranvier.extras import require

_log = logging.getLogger(__name__)
IN_MEMORY_BYTES = 2 << 30  # of decoded images; larger sets stay in their files
_SPLITS = ("train", "test")
_TEST_NAMES = ("test", "val", "valid", "validation")


def load_image_folder(
    root: Path | None,
    path: str | None = None,
    size: int | None = None,
    channels: int = 3,
    in_memory: bool | Literal["auto"] = "auto",
) -> Parts:
    """The images of the folder or zip at `path`: `train/<class>/...` and `test/<class>/...` (or `val`, `valid`).

    Args:
        size: side of the square images: the shorter side is resized to it and the centre cut out. Without it all
            images must have one size.
        channels: 3 for colour, 1 for grey; images are converted.
        in_memory: decode everything once (and keep it in the cache), or decode every batch anew; "auto" decides by the
            decoded size, 2 GiB.
    """
    if path is None:
        raise ArgumentError(
            "data set 'image_folder' needs path=..., a folder or zip with train/<class>/ and test/<class>/"
        )
    return read_image_folder(located("image_folder", root, path), size, channels, in_memory)


def read_image_folder(
    path: Path, size: int | None = None, channels: int = 3, in_memory: bool | Literal["auto"] = "auto"
) -> Parts:
    """As `load_image_folder`, of a path that is known."""
    _check(size, channels, in_memory)
    if not in_memory:
        return _lazy(Archive(path), size, channels)
    pillow = require("PIL", extra="data").__version__  # another version may decode to other pixels
    key = cache_key(stamp(path), size, channels, pillow, 1)
    found = lookup("images", key)
    if found is None:
        archive = Archive(path)
        if in_memory == "auto" and _decoded_bytes(archive, size, channels) > IN_MEMORY_BYTES:
            return _lazy(archive, size, channels)
        found = keep("images", key, *_decoded(archive, size, channels))
    arrays, notes = found
    samples = {s: ArraySamples(torch.from_numpy(arrays[s]), torch.from_numpy(arrays[f"{s}_labels"])) for s in _SPLITS}
    return Parts(
        samples["train"], samples["test"], tuple(notes["classes"]), notes["content"], tuple(notes["mean"]),
        tuple(notes["std"]),
    )  # fmt: skip


def _decoded(archive: Archive, size: int | None, channels: int) -> tuple[Arrays, Notes]:
    names, labels, classes = _layout(archive)
    _log.info("decoding the images of %s; the next time they come from the cache", archive.path)
    arrays: Arrays = {split: decode_members(archive, names[split], channels, size) for split in _SPLITS}
    if arrays["train"].shape[1:] != arrays["test"].shape[1:]:
        raise DataError(
            f"{archive.path}: train images are {arrays['train'].shape[1:]} but test images {arrays['test'].shape[1:]} "
            "(channels, height, width); pass size=... to resize them all"
        )
    mean, std = channel_statistics(arrays["train"])
    arrays |= {f"{split}_labels": np.array(labels[split], np.int64) for split in _SPLITS}
    content = archive.content([*names["train"], *names["test"]])
    return arrays, {"classes": classes, "mean": mean, "std": std, "content": content}


def _lazy(archive: Archive, size: int | None, channels: int) -> Parts:
    names, labels, classes = _layout(archive)
    train, test = (
        ImageFileSamples(archive, names[split], torch.tensor(labels[split]), channels, size) for split in _SPLITS
    )
    some = np.linspace(0, len(train) - 1, min(1000, len(train))).astype(int)
    mean, std = channel_statistics(decode_members(archive, [train.names[i] for i in some], channels, size))
    return Parts(train, test, classes, archive.content([*names["train"], *names["test"]], read=False), mean, std)


def _decoded_bytes(archive: Archive, size: int | None, channels: int) -> int:
    names, _, _ = _layout(archive)
    first = names["train"][0]
    return decode(archive.read(first), archive.where(first), channels, size).size * sum(map(len, names.values()))


def _layout(archive: Archive) -> tuple[dict[str, list[str]], dict[str, list[int]], tuple[str, ...]]:
    """Members and labels of each split, and the class names; a label is the rank of its class by name."""
    tops = {name.split("/", 1)[0] for name in archive.members}
    test_name = next((name for name in _TEST_NAMES if name in tops), None)
    if "train" not in tops or test_name is None:
        raise DataError(
            f"{archive.path}: needs the folders train/<class>/ and test/<class>/; found {', '.join(sorted(tops)[:8])}"
        )
    found: dict[str, list[tuple[str, str]]] = {"train": [], "test": []}
    for name in archive.members:
        split, _, rest = name.partition("/")
        label, _, file = rest.partition("/")
        if split not in ("train", test_name):
            continue
        if not file or not file.lower().endswith(EXTENSIONS):
            raise DataError(f"{archive.where(name)}: is not an image in a class folder; take it out")
        found["train" if split == "train" else "test"].append((label, name))
    classes = tuple(sorted({label for label, _ in found["train"]}))
    rank = {label: i for i, label in enumerate(classes)}
    if foreign := sorted({label for label, _ in found["test"]} - set(classes)):
        raise DataError(f"{archive.path}: {test_name}/ has classes that train/ has not: {', '.join(foreign[:8])}")
    if not found["train"] or not found["test"]:
        raise DataError(f"{archive.path}: has no images in {'train' if not found['train'] else test_name}/<class>/")
    names = {split: [name for _, name in pairs] for split, pairs in found.items()}
    return names, {split: [rank[label] for label, _ in pairs] for split, pairs in found.items()}, classes


def _check(size: Any, channels: Any, in_memory: Any) -> None:
    if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 1):
        raise ArgumentError(f"size must be a number of pixels or None, got {size!r}")
    if channels not in (1, 3):
        raise ArgumentError(f"channels must be 1 or 3, got {channels!r}")
    if in_memory not in (True, False, "auto"):
        raise ArgumentError(f"in_memory must be true, false or 'auto', got {in_memory!r}")


DATASETS.register("image_folder")(
    DatasetEntry(
        kind="static", load=load_image_folder, find=lambda root: None,
        how="Any folder or zip with train/<class>/*.png and test/<class>/*.png: pass path=...",
    )
)  # fmt: skip
