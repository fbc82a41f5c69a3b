"""LiDAR sweeps in the layouts of KITTI (boxes) and SemanticKITTI (a class for every point)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ranvier.data.bundle import DATASETS, DatasetEntry, Parts, first_existing, located
from ranvier.data.cache import cache_key
from ranvier.data.points.lidar import SEMANTIC_CLASSES, Scan, kitti_scans, semantic_kitti_scans
from ranvier.data.points.scan_samples import BoxedScans, LabelledScans
from ranvier.errors import ArgumentError, DataError

KITTI_RANGE = (0.0, -40.0, -3.0, 70.4, 40.0, 1.0)


def load_kitti(
    root: Path | None, path: str | None = None, points: int = 20_000, classes: Sequence[str] = ("Car",),
    range: Sequence[float] = KITTI_RANGE,
) -> Parts:  # fmt: skip
    """KITTI 3-D objects (Geiger et al., 2012): clouds `[points, 4]` and tables of boxes `[M, 9]`.

    Read from `training/{velodyne,label_2,calib}`; `ImageSets/train.txt` and `val.txt` name the parts.

    Args:
        points: of a cloud; of more a random part is taken, fewer are filled up with repeated ones.
        classes: that are found, as KITTI spells them.
        range: only points in it.
    """
    folder = located("kitti", root, path)
    if not classes or any(not isinstance(c, str) for c in classes):
        raise ArgumentError(f"classes must be names such as 'Car', got {classes!r}")
    parts = [kitti_scans(folder, split) for split in ("train", "val")]
    for scan in (scan for part in parts for scan in part):
        if scan.labels is None or scan.calibration is None:
            raise DataError(f"{scan.points}: has no file in label_2 or calib")
    train, test = (BoxedScans(scans, points, range, tuple(classes)) for scans in parts)
    return Parts(train, test, tuple(classes), _content(folder, parts))


def load_semantickitti(
    root: Path | None, path: str | None = None, points: int = 120_000, range: Sequence[float] | None = None
) -> Parts:
    """SemanticKITTI (Behley et al., 2019): clouds `[points, 4]` with one of 19 classes a point; the test part is `val`.

    Read from `sequences/<nn>/{velodyne,labels}`.

    Args:
        points: of a cloud; of more a random part is taken, fewer are filled with repeated ones that do not count.
        range: only points in it (lows and highs of x, y, z); None for all.
    """
    folder = located("semantickitti", root, path)
    parts = [semantic_kitti_scans(folder, split) for split in ("train", "val")]
    for scan in (scan for part in parts for scan in part):
        if scan.labels is None:
            raise DataError(f"{scan.points}: has no file in labels")
    train, test = (LabelledScans(scans, points, range) for scans in parts)
    return Parts(train, test, SEMANTIC_CLASSES, _content(folder, parts))


def _content(folder: Path, parts: list[list[Scan]]) -> str:
    """What identifies the sweeps: their names and sizes."""
    return cache_key(*[(scan.name, scan.points.stat().st_size) for part in parts for scan in part])


DATASETS.register("kitti")(
    DatasetEntry(
        kind="points", task="detection", load=load_kitti,
        find=lambda root: first_existing(root, "kitti", "KITTI", "kitti/object"),
        how="Unpack KITTI's velodyne, label_2 and calib, with ImageSets/train.txt and val.txt, in <data folder>/kitti.",
    )
)  # fmt: skip
DATASETS.register("semantickitti")(
    DatasetEntry(
        kind="points", task="segmentation", load=load_semantickitti,
        find=lambda root: first_existing(root, "SemanticKITTI", "semantickitti", "semantic_kitti"),
        how="Unpack SemanticKITTI (dataset/sequences) in <data folder>/SemanticKITTI.",
    )
)  # fmt: skip
