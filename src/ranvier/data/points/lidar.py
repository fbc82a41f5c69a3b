"""Sweeps of LiDARs and what is known about them, in the layouts of KITTI, SemanticKITTI and nuScenes."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ranvier.errors import ArgumentError, DataError

# Raw classes of SemanticKITTI to the 19 that are trained on; moving objects join the resting ones.
_LEARNED: dict[int, int] = {
    10: 0, 11: 1, 13: 4, 15: 2, 16: 4, 18: 3, 20: 4, 30: 5, 31: 6, 32: 7, 40: 8, 44: 9, 48: 10, 49: 11, 50: 12, 51: 13,
    60: 8, 70: 14, 71: 15, 72: 16, 80: 17, 81: 18, 252: 0, 253: 6, 254: 5, 255: 7, 256: 4, 257: 4, 258: 3, 259: 4,
}  # fmt: skip
SEMANTIC_CLASSES = (
    "car", "bicycle", "motorcycle", "truck", "other-vehicle", "person", "bicyclist", "motorcyclist", "road", "parking",
    "sidewalk", "other-ground", "building", "fence", "vegetation", "trunk", "terrain", "pole", "traffic-sign",
)  # fmt: skip
_SPLITS = {
    "train": (0, 1, 2, 3, 4, 5, 6, 7, 9, 10), "val": (8,), "test": tuple(range(11, 22)),
}  # fmt: skip


@dataclass(frozen=True)
class Scan:
    """One sweep in its data set: where its points are, and its labels and calibration where the set has them."""

    name: str
    points: Path
    labels: Path | None = None
    calibration: Path | None = None
    channels: int = 4

    def read(self) -> NDArray[np.float32]:
        """The points."""
        return read_sweep(self.points, self.channels)


def read_sweep(path: str | Path, channels: int = 4) -> NDArray[np.float32]:
    """Points float32 `[N, channels]` of a `.bin` sweep: x, y, z, intensity, and for nuScenes (5) the ring.

    Raises `DataError` for a file that is missing, empty, not a whole number of points, or holds NaN or infinity.
    """
    if not isinstance(channels, int) or channels < 3:
        raise ArgumentError(f"channels must be an integer of at least 3, got {channels!r}")
    data = _bytes(path)
    size = 4 * channels
    if not data or len(data) % size:
        raise DataError(f"{path}: {len(data)} bytes are not a whole number of points of {channels} float32; cut off?")
    points = np.frombuffer(data, "<f4").reshape(-1, channels).astype(np.float32)
    wrong = ~np.isfinite(points).all(1)
    if wrong.any():
        raise DataError(f"{path}: point {int(wrong.argmax())} is not finite")
    return points


def read_semantic_labels(path: str | Path, points: int | None = None) -> NDArray[np.int64]:
    """Labels int64 `[N]` of a SemanticKITTI `.label` file: 0 .. 18, −1 where a point is not to be counted.

    Raises `DataError` for a size that does not fit `points`, or an unknown class.
    """
    data = _bytes(path)
    if len(data) % 4 or (points is not None and len(data) != 4 * points):
        wanted = "" if points is None else f" for {points} points"
        raise DataError(f"{path}: {len(data)} bytes are not the uint32 labels{wanted}")
    raw = np.frombuffer(data, "<u4").astype(np.int64) & 0xFFFF
    table = np.full(1 << 16, -2, np.int64)
    table[[0, 1, 52, 99]] = -1
    table[list(_LEARNED)] = list(_LEARNED.values())
    labels = table[raw]
    if (labels == -2).any():
        raise DataError(f"{path}: has the unknown class {int(raw[(labels == -2).argmax()])}")
    return labels


def read_kitti_calibration(path: str | Path) -> dict[str, NDArray[np.float64]]:
    """The matrices of a KITTI calibration file by name, flat: P0 .. P3, R0_rect, Tr_velo_to_cam, ..."""
    matrices: dict[str, NDArray[np.float64]] = {}
    for line in _bytes(path).decode("ascii", errors="replace").splitlines():
        name, colon, values = line.partition(":")
        if colon and values.strip():
            try:
                matrices[name.strip()] = np.array([float(v) for v in values.split()])
            except ValueError as error:
                raise DataError(f"{path}: {name!r} holds something that is not a number") from error
    return matrices


def read_kitti_objects(path: str | Path) -> list[tuple[str, NDArray[np.float64]]]:
    """The labelled objects of a frame: class, and the 14 numbers of its line (without a score)."""
    objects: list[tuple[str, NDArray[np.float64]]] = []
    for number, line in enumerate(_bytes(path).decode("ascii", errors="replace").splitlines(), 1):
        fields = line.split()
        if not fields:
            continue
        try:
            values = np.array([float(v) for v in fields[1:15]])
        except ValueError as error:
            raise DataError(f"{path}: line {number} holds something that is not a number") from error
        if len(values) != 14 or not np.isfinite(values).all():
            raise DataError(f"{path}: line {number} is not a class and 14 numbers")
        objects.append((fields[0], values))
    return objects


def read_kitti_labels(
    labels: str | Path, calibration: str | Path, classes: tuple[str, ...] = ("Car",)
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Boxes `[n, 7]` (centre, sizes, heading; LiDAR frame) and classes `[n]` of a KITTI frame."""
    calib = read_kitti_calibration(calibration)
    for name, size in (("R0_rect", 9), ("Tr_velo_to_cam", 12)):
        if calib.get(name, np.zeros(0)).size != size:
            raise DataError(f"{calibration}: lacks the matrix {name} of {size} numbers")
    rectify = np.eye(4)
    rectify[:3, :3] = calib["R0_rect"].reshape(3, 3)
    velo = np.vstack([calib["Tr_velo_to_cam"].reshape(3, 4), [0, 0, 0, 1]])
    try:
        back = np.linalg.inv(rectify @ velo)
    except np.linalg.LinAlgError as error:
        raise DataError(f"{calibration}: its matrices cannot be inverted") from error
    boxes: list[list[float]] = []
    kinds: list[int] = []
    for name, values in read_kitti_objects(labels):
        if name not in classes:
            continue
        height, width, length, x, y, z, turn = values[7:14]
        centre = (back @ np.array([x, y, z, 1.0]))[:3]
        heading = -turn - math.pi / 2
        boxes.append([*centre[:2], centre[2] + height / 2, length, width, height,
                      heading - 2 * math.pi * math.floor(heading / (2 * math.pi) + 0.5)])  # fmt: skip
        kinds.append(classes.index(name))
    return np.array(boxes, np.float32).reshape(-1, 7), np.array(kinds, np.int64)


def kitti_scans(root: str | Path, split: str = "training") -> list[Scan]:
    """The frames of KITTI's object benchmark: `training/velodyne/*.bin` with `label_2/*.txt` and `calib/*.txt`.

    A file `ImageSets/<split>.txt` (train, val) names frames of `training`.
    """
    root = Path(root)
    named = root / "ImageSets" / f"{split}.txt"
    folder = root / ("testing" if split in ("test", "testing") else "training")
    sweeps = folder / "velodyne"
    if not sweeps.is_dir():
        raise DataError(f"{sweeps}: there is no such folder; unpack KITTI's velodyne archive there")
    if named.is_file():
        lines = _bytes(named).decode("ascii", errors="replace").splitlines()
        names = [line.strip() for line in lines if line.strip()]
        if bad := [name for name in names if not re.fullmatch(r"\w[\w.-]*", name)]:
            raise DataError(f"{named}: {bad[0]!r:.60} is not the name of a frame")
    elif split in ("training", "testing"):
        names = sorted(path.stem for path in sweeps.glob("*.bin"))
    else:
        raise DataError(f"{named}: is missing, so that the frames of split {split!r} are not known")
    scans = [Scan(name, sweeps / f"{name}.bin", _there(folder / "label_2" / f"{name}.txt"),
                  _there(folder / "calib" / f"{name}.txt")) for name in names]  # fmt: skip
    return _found(scans, sweeps)


def semantic_kitti_scans(root: str | Path, split: str = "train") -> list[Scan]:
    """The scans of SemanticKITTI: `sequences/08/velodyne/*.bin` with `labels/*.label`; splits train, val, test."""
    if split not in _SPLITS:
        raise ArgumentError(f"split must be one of {', '.join(_SPLITS)}, got {split!r}")
    base = Path(root)
    base = base / "sequences" if (base / "sequences").is_dir() else base / "dataset" / "sequences"
    scans: list[Scan] = []
    for sequence in _SPLITS[split]:
        folder = base / f"{sequence:02d}"
        for path in sorted((folder / "velodyne").glob("*.bin")):
            scans.append(Scan(f"{sequence:02d}/{path.stem}", path, _there(folder / "labels" / f"{path.stem}.label")))
    return _found(scans, base)


def nuscenes_scans(root: str | Path, key_frames: bool = True) -> list[Scan]:
    """The LiDAR sweeps of nuScenes in order of time: `samples/LIDAR_TOP/*.pcd.bin`, or those in `sweeps` between."""
    folder = Path(root) / ("samples" if key_frames else "sweeps") / "LIDAR_TOP"
    paths = sorted(folder.glob("*.pcd.bin"), key=lambda p: (_stamp(p.name), p.name))
    return _found([Scan(path.name.removesuffix(".pcd.bin"), path, channels=5) for path in paths], folder)


def _stamp(name: str) -> int:
    found = re.search(r"__(\d+)\.pcd\.bin$", name)
    return int(found.group(1)) if found else 0


def _there(path: Path) -> Path | None:
    return path if path.is_file() else None


def _found(scans: list[Scan], where: Path) -> list[Scan]:
    if not scans:
        raise DataError(f"{where}: holds no sweeps in the layout that this data set has")
    return scans


def _bytes(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
