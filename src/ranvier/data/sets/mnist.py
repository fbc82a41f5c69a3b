"""MNIST from its IDX files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ranvier.data.bundle import DATASETS, DatasetEntry, Parts, first_existing, located
from ranvier.data.cache import digest
from ranvier.data.idx import read_idx
from ranvier.data.samples import ArraySamples
from ranvier.data.statistics import channel_statistics
from ranvier.errors import ArgumentError, DataError

_STEMS = {"train": "train", "test": "t10k"}


def load_mnist(root: Path | None, path: str | None = None, pool: int = 1) -> Parts:
    """60,000 train and 10,000 test images `[1, 28, 28]` (LeCun et al.).

    Read from `train-images-idx3-ubyte`, `t10k-labels-idx1-ubyte` and so on, plain or with `.gz`, in the folder `path`,
    or in `MNIST/raw`, `MNIST`, `mnist` or the data folder itself. With `pool` 2, 4, 7 or 14, squares of that side
    become one pixel, their mean.
    """
    if pool not in (1, 2, 4, 7, 14):
        raise ArgumentError(f"pool must be 1, 2, 4, 7 or 14, got {pool!r}")
    folder = located("mnist", root, path)
    parts = {split: _read(folder, stem) for split, stem in _STEMS.items()}
    if pool > 1:
        parts = {split: (_pooled(x, pool), y) for split, (x, y) in parts.items()}
    (train_x, _), (test_x, _) = parts["train"], parts["test"]
    if train_x.shape[1:] != test_x.shape[1:]:
        raise DataError(f"{folder}: train images are {train_x.shape[1:]} pixels but test images {test_x.shape[1:]}")
    mean, std = channel_statistics(train_x[:, None])
    samples = {
        split: ArraySamples(torch.from_numpy(x).unsqueeze(1), torch.from_numpy(y.astype(np.int64)))
        for split, (x, y) in parts.items()
    }
    for split, part in samples.items():
        part.keys = [f"{split}/{number}" for number in range(1, len(part) + 1)]  # as N-MNIST numbers them
    return Parts(
        train=samples["train"], test=samples["test"], classes=tuple("0123456789"), mean=mean, std=std,
        content="".join(digest(array) for pair in parts.values() for array in pair),
    )  # fmt: skip


def _read(folder: Path, stem: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    image_file, label_file = _file(folder, f"{stem}-images-idx3-ubyte"), _file(folder, f"{stem}-labels-idx1-ubyte")
    images, labels = read_idx(image_file, 3), read_idx(label_file, 1)
    if len(images) != len(labels):
        raise DataError(f"{label_file}: holds {len(labels)} labels for the {len(images)} images of {image_file.name}")
    if labels.max() > 9:
        raise DataError(f"{label_file}: holds the label {labels.max()}; MNIST has 0 to 9")
    return images, labels


def _pooled(images: NDArray[np.uint8], pool: int) -> NDArray[np.uint8]:
    n, h, w = images.shape
    squares = images.reshape(n, h // pool, pool, w // pool, pool)
    return (squares.sum((2, 4), dtype=np.uint32) / pool**2 + 0.5).astype(np.uint8)


def _file(folder: Path, name: str) -> Path:
    found = first_existing(folder, name, f"{name}.gz")
    if found is None:
        raise DataError(f"{folder}: has neither {name} nor {name}.gz")
    return found


def _find(root: Path | None) -> Path | None:
    for place in ("MNIST/raw", "MNIST", "mnist", "."):
        folder = first_existing(root, place)
        if folder and first_existing(folder, "train-images-idx3-ubyte", "train-images-idx3-ubyte.gz"):
            return folder
    return None


DATASETS.register("mnist")(
    DatasetEntry(
        kind="static", load=load_mnist, find=_find,
        how="Put the four IDX files (train-images-idx3-ubyte.gz, ...) into <data folder>/MNIST/raw.",
        places=frozenset({"path", "pool"}),  # pooled pixels have another content, which the fingerprint knows
    )
)  # fmt: skip
