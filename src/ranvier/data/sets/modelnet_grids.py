"""Voxel grids of ModelNet shapes: one gzip'd array a class."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ranvier.data.archive import stamp
from ranvier.data.bundle import DATASETS, DatasetEntry, Parts, located
from ranvier.data.points.samples import GridSamples
from ranvier.data.split import stratified
from ranvier.errors import DataError

TEST_SHARE = 0.25
_LARGEST = 1 << 30  # bytes of a class; more is a bomb or a foreign file


def load_modelnet_grids(root: Path | None, path: str | None = None) -> Parts:
    """Occupancy grids `[1, X, Y, Z]` of 0 and 1, a class a file `<set>_<class>.npy.gz` of shape (N, 1, X, Y, Z).

    Read from the folder at `path`, or called `voxels`. The files say nothing of a split: a quarter of each class,
    `stratified(labels, n / 4, 0)`, is the test part.
    """
    place = located("modelnet_grids", root, path)
    files = sorted(place.glob("*.npy.gz")) if place.is_dir() else []
    if len(files) < 2:
        raise DataError(f"{place}: needs at least two files <set>_<class>.npy.gz, has {len(files)}")
    grids = [_read(file) for file in files]
    if len({grid.shape[1:] for grid in grids}) > 1:
        raise DataError(f"{place}: the grids have different shapes: {[grid.shape[1:] for grid in grids]}")
    labels = np.repeat(np.arange(len(files)), [len(grid) for grid in grids]).astype(np.int64)
    values = np.concatenate(grids)
    test = stratified(labels, round(len(labels) * TEST_SHARE), 0)
    train = np.setdiff1d(np.arange(len(labels)), test)

    def part(rows: NDArray[np.int64]) -> GridSamples:
        return GridSamples(torch.from_numpy(values[rows]), torch.from_numpy(labels[rows]))

    classes = tuple(file.name.removesuffix(".npy.gz").rpartition("_")[2] for file in files)
    return Parts(part(train), part(test), classes, "".join(stamp(file) for file in files))


def _read(path: Path) -> NDArray[np.uint8]:
    try:
        with gzip.open(path) as file:
            data = file.read(_LARGEST + 1)
        if len(data) > _LARGEST:
            raise ValueError(f"more than {_LARGEST} bytes")
        grid = np.load(io.BytesIO(data), allow_pickle=False)
        if not isinstance(grid, np.ndarray):
            raise ValueError("an archive of arrays")
    except Exception as error:  # broken headers end in whatever Python's own parser raises
        raise DataError(f"{path}: is not a whole gzip'd array: {error}") from error
    occupied = grid.astype(np.uint8) if grid.dtype.kind in "buif" else grid
    if grid.ndim != 5 or not len(grid) or grid.dtype.kind not in "buif" or not ((grid == 0) | (grid == 1)).all():
        raise DataError(f"{path}: expected occupancy (N, C, X, Y, Z) of 0 and 1, got {grid.shape} of {grid.dtype}")
    return occupied


def _find(root: Path | None) -> Path | None:
    return None if root is None or not list((root / "voxels").glob("*.npy.gz")) else root / "voxels"


DATASETS.register("modelnet_grids")(
    DatasetEntry(
        kind="voxels", load=load_modelnet_grids, find=_find,
        how="Put files <set>_<class>.npy.gz with grids (N, 1, X, Y, Z) into <data folder>/voxels.",
    )
)  # fmt: skip
