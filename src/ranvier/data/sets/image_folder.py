"""Any folder or zip of images, `train/<class>/*.png` and `test/<class>/*.png`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from ranvier.data.archive import Archive
from ranvier.data.bundle import DATASETS, DatasetEntry, Parts, located
from ranvier.data.cache import Arrays, Notes, cached
from ranvier.data.images import EXTENSIONS, ImageFileSamples, decode, decode_members
from ranvier.data.samples import ArraySamples
from ranvier.data.statistics import channel_statistics
from ranvier.errors import ArgumentError, DataError
from ranvier.extras import require

IN_MEMORY_BYTES = 2 << 30  # of decoded images; larger sets stay in their files
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
    return read_image_folder(Archive(located("image_folder", root, path)), size, channels, in_memory)


def read_image_folder(
    archive: Archive, size: int | None = None, channels: int = 3, in_memory: bool | Literal["auto"] = "auto"
) -> Parts:
    """As `load_image_folder`, of an archive that is open already."""
    _check(size, channels, in_memory)
    names, labels, classes = _layout(archive)
    if in_memory == "auto":
        first = decode(archive.read(names["train"][0]), archive.where(names["train"][0]), channels, size)
        in_memory = first.size * sum(map(len, names.values())) <= IN_MEMORY_BYTES
    y = {split: torch.tensor(labels[split], dtype=torch.int64) for split in names}
    every = [*names["train"], *names["test"]]
    if not in_memory:
        lazy = {split: ImageFileSamples(archive, names[split], y[split], channels, size) for split in names}
        some = np.linspace(0, len(lazy["train"]) - 1, min(1000, len(lazy["train"]))).astype(int)
        x = decode_members(archive, [names["train"][i] for i in some], channels, size)
        mean, std = channel_statistics(x)
        content = archive.content(every, read=False)
        return Parts(lazy["train"], lazy["test"], classes, content, mean, std)

    def make() -> tuple[Arrays, Notes]:
        x = {split: decode_members(archive, names[split], channels, size) for split in names}
        if x["train"].shape[1:] != x["test"].shape[1:]:
            raise DataError(
                f"{archive.path}: train images are {x['train'].shape[1:]} but test images {x['test'].shape[1:]} "
                "(channels, height, width); pass size=... to resize them all"
            )
        mean, std = channel_statistics(x["train"])
        return {**x}, {"mean": mean, "std": std, "content": archive.content(every)}

    pillow = require("PIL", extra="data").__version__  # another version may decode to other pixels
    x, notes = cached("images", _key(archive.stamp(), str(size), str(channels), pillow), make)
    samples = {split: ArraySamples(torch.from_numpy(x[split]), y[split]) for split in names}
    return Parts(
        samples["train"], samples["test"], classes, notes["content"], tuple(notes["mean"]), tuple(notes["std"])
    )


def _key(*parts: str) -> str:
    import hashlib

    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


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
