"""CIFAR-10, from the official binary files or from image folders."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ranvier.data.bundle import DATASETS, DatasetEntry, Parts, first_existing, located
from ranvier.data.cache import digest
from ranvier.data.samples import ArraySamples
from ranvier.data.sets.image_folder import read_image_folder
from ranvier.data.statistics import channel_statistics
from ranvier.errors import ArgumentError, DataError

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_RECORD = 1 + 3 * 32 * 32
_FILES = {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "test": ["test_batch.bin"]}


def load_cifar10(root: Path | None, path: str | None = None, size: int = 32) -> Parts:
    """50,000 train and 10,000 test images `[3, 32, 32]` (Krizhevsky 2009).

    Read from `cifar-10-batches-bin/` (exact pixels), or from image folders `train/airplane/...` in a folder `cifar10`
    or a zip `cifar10.zip` or `cifar10_jpeg.zip` (decoded once, then cached; JPEG is slightly lossy).

    Args:
        size: 32, or 16, 8, 4, 2, 1 for images averaged over squares of pixels.
    """
    if size not in (32, 16, 8, 4, 2, 1):
        raise ArgumentError(f"size must be 32, 16, 8, 4, 2 or 1, got {size!r}")
    place = located("cifar10", root, path)
    parts = _read_binary(place) if (place / _FILES["test"][0]).is_file() else _read_images(place)
    return parts if size == 32 else _smaller(parts, size)


def _read_binary(folder: Path) -> Parts:
    x: dict[str, NDArray[np.uint8]] = {}
    y: dict[str, NDArray[np.uint8]] = {}
    for split, names in _FILES.items():
        records = np.concatenate([_records(folder / name) for name in names])
        y[split] = records[:, 0]
        x[split] = np.ascontiguousarray(records[:, 1:]).reshape(-1, 3, 32, 32)
    mean, std = channel_statistics(x["train"])
    samples = {s: ArraySamples(torch.from_numpy(x[s]), torch.from_numpy(y[s].astype(np.int64))) for s in x}
    content = "".join(digest(array) for s in x for array in (x[s], y[s]))
    return Parts(samples["train"], samples["test"], CLASSES, content, mean, std)


def _records(file: Path) -> NDArray[np.uint8]:
    try:
        data = np.fromfile(file, np.uint8)
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error}") from error
    if not len(data) or len(data) % _RECORD:
        raise DataError(f"{file}: {len(data)} bytes are not a whole number of CIFAR-10 records of {_RECORD} bytes")
    records = data.reshape(-1, _RECORD)
    if records[:, 0].max() > 9:
        bad = int((records[:, 0] > 9).argmax())
        raise DataError(f"{file}: record {bad} has the label {records[bad, 0]}; CIFAR-10 has 0 to 9")
    return records


def _read_images(place: Path) -> Parts:
    parts = read_image_folder(place)
    shape = tuple(parts.train[0][0].shape)
    if parts.classes != CLASSES or shape != (3, 32, 32):
        raise DataError(
            f"{place}: is not CIFAR-10: {len(parts.classes)} classes ({', '.join(parts.classes[:10])}) of images "
            f"{shape}; expected its ten classes at (3, 32, 32)"
        )
    return parts


def _smaller(parts: Parts, size: int) -> Parts:
    def pool(samples: Any) -> ArraySamples:
        side, values = 32 // size, samples.values.numpy()
        sums = np.full((len(values), 3, size, size), side * side // 2, np.uint32)  # so that the division rounds
        for row in range(side):
            for column in range(side):
                sums += values[:, :, row::side, column::side]
        return ArraySamples(torch.from_numpy((sums // side**2).astype(np.uint8)), samples.labels)

    train, test = pool(parts.train), pool(parts.test)
    mean, std = channel_statistics(train.values.numpy())
    return replace(parts, train=train, test=test, mean=mean, std=std)


def _find(root: Path | None) -> Path | None:
    return first_existing(
        root, "cifar-10-batches-bin", "cifar10/cifar-10-batches-bin", "cifar10", "cifar10.zip", "cifar10_jpeg",
        "cifar10_jpeg.zip",
    )  # fmt: skip


DATASETS.register("cifar10")(
    DatasetEntry(
        kind="static", load=load_cifar10, find=_find,
        how="Unpack the official binary version (cifar-10-binary.tar.gz) into <data folder>/cifar-10-batches-bin, or "
        "put image folders train/<class>/, test/<class>/ into <data folder>/cifar10 or cifar10.zip.",
    )
)  # fmt: skip
