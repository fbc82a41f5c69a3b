"""scikit-learn's handwritten digits: 1797 real images of 8 x 8 pixels that come inside the package."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch

from ranvier.data.bundle import DATASETS, DatasetEntry, Parts
from ranvier.data.cache import digest
from ranvier.data.samples import ArraySamples
from ranvier.data.split import stratified
from ranvier.data.statistics import channel_statistics
from ranvier.extras import require

TEST_SIZE = 360


def load_digits(root: Path | None = None) -> Parts:
    """Version 1: 1437 train and 360 test images `[1, 8, 8]`, grey levels 0 .. 16 scaled to [0, 1].

    The split is fixed: `stratified(labels, 360, 0)` are the test images, in the order of scikit-learn; the rest trains.
    The same writers occur in both (the set does not say who wrote what).
    """
    datasets = require("sklearn.datasets", extra="data")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about NumPy versions, from scikit-learn's own reader
        images, labels = datasets.load_digits(return_X_y=True)
    images = images.astype(np.uint8).reshape(-1, 1, 8, 8)
    labels = labels.astype(np.int64)
    test = stratified(labels, TEST_SIZE, 0)
    train = np.setdiff1d(np.arange(len(labels)), test)
    mean, std = channel_statistics(images[train], scale=16)

    def samples(part: np.ndarray) -> ArraySamples:
        return ArraySamples(torch.from_numpy(images[part]), torch.from_numpy(labels[part]), scale=16)

    return Parts(
        train=samples(train), test=samples(test), classes=tuple("0123456789"), mean=mean, std=std,
        content=digest(images) + digest(labels),
    )  # fmt: skip


DATASETS.register("digits")(
    DatasetEntry(
        kind="static", load=load_digits, find=lambda root: None, needs_root=False,
        how="It comes with scikit-learn: pip install 'ranvier[data]'.",
    )
)  # fmt: skip
