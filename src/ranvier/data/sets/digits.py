"""scikit-learn's handwritten digits: 1797 real images of 8 x 8 pixels that come inside the package."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ranvier.data.bundle import DATASETS, DatasetEntry, Parts
from ranvier.data.cache import digest
from ranvier.data.samples import ArraySamples
from ranvier.data.split import stratified
from ranvier.data.statistics import channel_statistics
from ranvier.errors import DataError
from ranvier.extras import require

TEST_SIZE = 360


def load_digits(root: Path | None = None) -> Parts:
    """Version 1: 1437 train and 360 test images `[1, 8, 8]`, grey levels 0 .. 16 scaled to [0, 1].

    The split is fixed: `stratified(labels, 360, 0)` are the test images, in the order of scikit-learn; the rest trains.
    The same writers occur in both (the set does not say who wrote what).
    """
    images, labels = _read()
    test = stratified(labels, TEST_SIZE, 0)
    train = np.setdiff1d(np.arange(len(labels)), test)
    mean, std = channel_statistics(images[train], scale=16)

    def samples(part: np.ndarray) -> ArraySamples:
        return ArraySamples(torch.from_numpy(images[part]), torch.from_numpy(labels[part]), scale=16)

    return Parts(
        train=samples(train), test=samples(test), classes=tuple("0123456789"), mean=mean, std=std,
        content=digest(images) + digest(labels),
    )  # fmt: skip


def _read() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images `[1797, 1, 8, 8]` and labels."""
    spec = find_spec("sklearn")
    table = Path(spec.origin).parent / "datasets/data/digits.csv.gz" if spec and spec.origin else None
    if table and table.is_file():  # importing scikit-learn takes longer than all of the rest
        rows = np.loadtxt(table, delimiter=",")
        images, labels = rows[:, :-1], rows[:, -1]
    else:
        images, labels = require("sklearn.datasets", extra="data").load_digits(return_X_y=True)
    if images.shape != (1797, 64):
        raise DataError(f"scikit-learn's digits have the shape {images.shape}, expected (1797, 64)")
    return images.astype(np.uint8).reshape(-1, 1, 8, 8), labels.astype(np.int64)


DATASETS.register("digits")(
    DatasetEntry(
        kind="static", load=load_digits, find=lambda root: None, needs_root=False,
        how="It comes with scikit-learn: pip install 'ranvier[data]'.",
    )
)  # fmt: skip
