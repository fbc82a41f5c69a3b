"""LiDAR sweeps as samples of equally many points, with a class for every point or boxes."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ranvier.data.points.lidar import Scan, read_kitti_labels, read_kitti_objects, read_semantic_labels
from ranvier.data.samples import Indices, as_index
from ranvier.data.targets import IGNORED, TargetSamples, table
from ranvier.errors import ArgumentError, DataError


def chosen_points(count: int, points: int, name: str) -> NDArray[np.int64]:
    """`points` rows of `count`: all, or a random part that depends on `name`, or all and −1 for what lacks."""
    if count <= points:
        return np.concatenate([np.arange(count), np.full(points - count, -1)])
    random = np.random.Generator(np.random.Philox(zlib.crc32(name.encode())))
    return np.sort(random.permutation(count)[:points])


class _Scans(TargetSamples):
    def __init__(self, scans: Sequence[Scan], points: int, range: Sequence[float] | None) -> None:
        if not isinstance(points, int) or isinstance(points, bool) or points < 16:
            raise ArgumentError(f"points must be an integer of at least 16, got {points!r}")
        self.scans, self.points = list(scans), points
        self.range = None if range is None else np.asarray(range, np.float32)
        if self.range is not None and (self.range.shape != (6,) or not (self.range[:3] < self.range[3:]).all()):
            raise ArgumentError(f"range must be six numbers, lows before highs, got {range!r}")
        self.labels, self.time_first = torch.zeros(len(self.scans), dtype=torch.int64), False

    def cloud(self, scan: Scan) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
        """Points `[points, C]`, which of the file they are (before the range), and the row of each (−1: repeated)."""
        cloud = scan.read()
        inside = np.arange(len(cloud))
        if self.range is not None:
            inside = np.flatnonzero(((cloud[:, :3] >= self.range[:3]) & (cloud[:, :3] < self.range[3:])).all(1))
        if not len(inside):
            raise DataError(f"{scan.points}: has no point in range")
        rows = chosen_points(len(inside), self.points, scan.name)
        return cloud[inside[rows % len(inside)]], inside, rows


class LabelledScans(_Scans):
    """Sweeps of SemanticKITTI with a class for every point.

    Args:
        points: of a sample; of more a random part is taken, fewer are filled with repeated ones that do not count.
        range: only points in it (lows and highs of x, y, z).
    """

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        clouds: list[NDArray[np.float32]] = []
        labels: list[NDArray[np.int64]] = []
        for i in as_index(indices, len(self)).tolist():
            scan = self.scans[i]
            cloud, inside, rows = self.cloud(scan)
            own = np.full(self.points, IGNORED, np.int64)
            if scan.labels is not None:
                stored = read_semantic_labels(scan.labels)
                if len(stored) <= inside[-1]:
                    raise DataError(
                        f"{scan.labels}: has {len(stored)} labels, fewer than {scan.points.name} has points"
                    )
                own = np.where(rows < 0, IGNORED, stored[inside[rows]])
            clouds.append(cloud)
            labels.append(own)
        return torch.from_numpy(np.stack(clouds)), torch.from_numpy(np.stack(labels))


class BoxedScans(_Scans):
    """Sweeps of KITTI with the boxes of its `classes`, and how hard each is (easy 0, moderate 1, hard 2, neither 3)."""

    def __init__(self, scans: Sequence[Scan], points: int, range: Sequence[float], classes: tuple[str, ...]) -> None:
        super().__init__(scans, points, range)
        self.classes = classes

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        clouds: list[Tensor] = []
        boxes: list[Tensor] = []
        kinds: list[Tensor] = []
        levels: list[Tensor] = []
        for i in as_index(indices, len(self)).tolist():
            scan = self.scans[i]
            clouds.append(torch.from_numpy(self.cloud(scan)[0]))
            own, kind, level = np.zeros((0, 7), np.float32), np.zeros(0, np.int64), np.zeros(0, np.int64)
            if scan.labels is not None and scan.calibration is not None:
                own, kind = read_kitti_labels(scan.labels, scan.calibration, self.classes)
                level = np.array([_difficulty(v) for n, v in read_kitti_objects(scan.labels) if n in self.classes])
            boxes.append(torch.from_numpy(own))
            kinds.append(torch.from_numpy(kind))
            levels.append(torch.from_numpy(level.astype(np.int64)))
        return torch.stack(clouds), table(boxes, kinds, levels)


def _difficulty(values: NDArray[np.float64]) -> int:
    """KITTI's level of an object: from its truncation, its occlusion and the pixels of its height in the image."""
    truncation, occlusion, height = values[0], values[1], values[6] - values[4]
    rules = ((40, 0, 0.15), (25, 1, 0.3), (25, 2, 0.5))
    for level, (pixels, occluded, truncated) in enumerate(rules):
        if height >= pixels and occlusion <= occluded and truncation <= truncated:
            return level
    return 3
