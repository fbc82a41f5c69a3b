"""ModelNet40: shapes of 40 classes as clouds, from meshes, resampled text files or HDF5."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ranvier.data.archive import Archive, stamp
from ranvier.data.bundle import DATASETS, DatasetEntry, Parts, first_existing, located
from ranvier.data.cache import cache_key, keep, lookup
from ranvier.data.hdf5 import check_start, numbers
from ranvier.data.points.off import read_off, sample_surface
from ranvier.data.points.samples import CloudSamples, normalise_to_sphere
from ranvier.errors import ArgumentError, DataError
from ranvier.extras import require
from ranvier.ops.points import farthest_point_sample

_SPLITS = ("train", "test")


def load_modelnet40(
    root: Path | None, path: str | None = None, points: int = 1024, channels: int = 6, sampling: str = "random"
) -> Parts:
    """Clouds `[points, channels]` in the unit sphere, with normals for 6 channels (Wu et al., CVPR 2015).

    Read from a folder or zip at `path`, or called `ModelNet40`, `modelnet40_normal_resampled` or
    `modelnet40_ply_hdf5_2048`, in any of the layouts that circulate: meshes `<class>/train/*.off`; text files
    `<class>/*.txt` with the lists `modelnet40_train.txt` and `modelnet40_test.txt`; or `ply_data_train*.h5` and
    `ply_data_test*.h5`. ModelNet10 in the same layout works too.

    Args:
        points: of a cloud; the HDF5 layout has at most 2048.
        channels: 6 with normals, 3 without.
        sampling: how points are chosen from more: "random" (seeded by the file's name) or "fps", farthest points.
    """
    if not isinstance(points, int) or points < 1 or channels not in (3, 6) or sampling not in ("random", "fps"):
        raise ArgumentError(
            "points must be a positive integer, channels 3 or 6, and sampling 'random' or 'fps', got "
            f"{points!r}, {channels!r} and {sampling!r}"
        )
    place = located("modelnet40", root, path)
    key = cache_key(stamp(place), points, channels, sampling, 1)
    found = lookup("modelnet40", key)
    if found is None:
        archive = Archive(place)
        read = _hdf5 if any(name.endswith(".h5") for name in archive.members) else _files
        arrays, classes = read(archive, points, channels, sampling)
        found = keep("modelnet40", key, arrays, {"content": archive.content(archive.members), "classes": classes})
    arrays, notes = found
    train, test = (CloudSamples(torch.from_numpy(arrays[s]), torch.from_numpy(arrays[f"{s}_labels"])) for s in _SPLITS)
    return Parts(train, test, tuple(notes["classes"]), notes["content"])


def _files(archive: Archive, points: int, channels: int, sampling: str) -> tuple[dict[str, NDArray[Any]], list[str]]:
    names = _meshes(archive) or _texts(archive)
    classes = sorted({name.split("/")[0] for split in _SPLITS for name in names.get(split, [])})
    arrays: dict[str, NDArray[Any]] = {}
    for split in _SPLITS:
        if not names.get(split):
            raise DataError(
                f"{archive.path}: has no {split} part in the layouts of ModelNet (.off in <class>/{split}/, .txt with "
                "modelnet40_train.txt, or ply_data_*.h5)"
            )
        clouds = [_cloud(archive, name, points, channels, sampling) for name in names[split]]
        arrays[split] = np.stack(clouds)
        arrays[f"{split}_labels"] = np.array([classes.index(name.split("/")[0]) for name in names[split]], np.int64)
    return arrays, classes


def _meshes(archive: Archive) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in archive.members:
        parts = name.split("/")
        if len(parts) == 3 and parts[1] in _SPLITS and name.endswith(".off"):
            found.setdefault(parts[1], []).append(name)
    return found


def _texts(archive: Archive) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for kind in ("40", "10"):
        for split in _SPLITS:
            listing = f"modelnet{kind}_{split}.txt"
            if listing not in archive.members or found.get(split):
                continue
            for line in archive.read(listing).decode("ascii", errors="replace").split():
                name = f"{line.rsplit('_', 1)[0]}/{line}.txt"
                if name not in archive.members:
                    raise DataError(f"{archive.where(listing)}: names {line}, but {name} is not there")
                found.setdefault(split, []).append(name)
    return found


def _cloud(archive: Archive, name: str, points: int, channels: int, sampling: str) -> NDArray[np.float32]:
    seed = zlib.crc32(name.encode())
    data = archive.read(name)
    if name.endswith(".off"):
        table = sample_surface(
            read_off(data, archive.where(name)), points if sampling == "random" else 4 * points, seed
        )
    else:
        try:
            rows = [line.split(",") for line in data.decode("ascii").split()]
            table = np.array(rows, np.float32)
        except (ValueError, UnicodeDecodeError) as error:
            raise DataError(f"{archive.where(name)}: is not a table of numbers ({error})") from error
        if table.ndim != 2 or table.shape[1] < channels or not np.isfinite(table).all():
            raise DataError(f"{archive.where(name)}: holds no rows of {channels} finite numbers")
    return _chosen(table[:, :channels], points, sampling, seed, archive.where(name))


def _chosen(table: NDArray[np.float32], points: int, sampling: str, seed: int, where: str) -> NDArray[np.float32]:
    if len(table) < points:
        raise DataError(f"{where}: has {len(table)} points, fewer than the {points} asked for")
    if len(table) > points:
        if sampling == "fps":
            rows = farthest_point_sample(torch.from_numpy(table[:, :3]), points).numpy()
        else:
            random = np.random.Generator(np.random.Philox(seed))
            rows = np.sort(np.argsort(random.random(len(table)), kind="stable")[:points])
        table = table[rows]
    out = table.copy()
    out[:, :3] = normalise_to_sphere(torch.from_numpy(out[:, :3])).numpy()
    return out


def _hdf5(archive: Archive, points: int, channels: int, sampling: str) -> tuple[dict[str, NDArray[Any]], list[str]]:
    h5py = require("h5py", extra="data")
    import io

    arrays: dict[str, NDArray[Any]] = {}
    for split in _SPLITS:
        names = [
            n for n in archive.members if n.rpartition("/")[2].startswith(f"ply_data_{split}") and n.endswith(".h5")
        ]
        if not names:
            raise DataError(f"{archive.path}: has no ply_data_{split}*.h5")
        clouds: list[NDArray[np.float32]] = []
        labels: list[NDArray[np.int64]] = []
        for name in names:
            where = archive.where(name)
            content = archive.read(name)
            check_start(content, where)
            try:
                with h5py.File(io.BytesIO(content), "r") as file:
                    data = numbers(file, "data", where).astype(np.float32, copy=False)
                    normal = numbers(file, "normal", where).astype(np.float32) if channels == 6 else data[..., :0]
                    label = numbers(file, "label", where, "iu").astype(np.int64).reshape(-1)
            except DataError:
                raise
            except Exception as error:  # h5py raises many types on damaged files
                raise DataError(f"{where}: is not a whole ModelNet HDF5 file: {error}") from error
            if data.ndim != 3 or len(label) != len(data) or (channels == 6 and normal.shape != data.shape):
                raise DataError(f"{where}: data {data.shape}, normal {normal.shape} and label {label.shape} do not fit")
            tables = np.concatenate([data, normal], 2)
            clouds += [
                _chosen(t, points, sampling, zlib.crc32(f"{name}/{i}".encode()), where) for i, t in enumerate(tables)
            ]
            labels.append(label)
        arrays[split], arrays[f"{split}_labels"] = np.stack(clouds), np.concatenate(labels)
    listing = next((n for n in archive.members if n.endswith("shape_names.txt")), None)
    count = int(max(arrays[f"{s}_labels"].max() for s in _SPLITS)) + 1
    if listing is None:
        return arrays, [f"class {i}" for i in range(count)]
    classes = archive.read(listing).decode("ascii", errors="replace").split()
    if len(classes) < count:
        raise DataError(f"{archive.where(listing)}: names {len(classes)} classes, the labels go to {count - 1}")
    return arrays, classes


def _find(root: Path | None) -> Path | None:
    names = ("ModelNet40", "modelnet40_normal_resampled", "modelnet40_ply_hdf5_2048", "modelnet40", "ModelNet10")
    return first_existing(root, *names, *(f"{name}.zip" for name in names))


DATASETS.register("modelnet40")(
    DatasetEntry(
        kind="points", load=load_modelnet40, find=_find,
        how="Unpack ModelNet40, modelnet40_normal_resampled or modelnet40_ply_hdf5_2048 in the data folder.",
    )
)  # fmt: skip
