"""Readers of sweeps, meshes and grids: exact on small files in the official layouts, clear on broken ones."""

from __future__ import annotations

import gzip
import io
import math
import struct
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from ranvier.data import load
from ranvier.data.points import (
    CloudSamples,
    kitti_scans,
    normalise_to_sphere,
    nuscenes_scans,
    read_kitti_labels,
    read_kitti_objects,
    read_off,
    read_semantic_labels,
    read_sweep,
    sample_surface,
    semantic_kitti_scans,
)
from ranvier.data.sets.digit_solids import lift
from ranvier.errors import ArgumentError, DataError
from ranvier.layers.sparse import voxelize

CUBE = b"""OFF8 6 12
0 0 0
1 0 0
1 1 0
0 1 0
0 0 1
1 0 1
1 1 1
0 1 1
4 0 1 2 3
4 4 5 6 7
4 0 1 5 4
4 2 3 7 6
4 1 2 6 5
4 0 3 7 4
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANVIER_CACHE", str(tmp_path / "cache"))


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_meshes() -> None:
    for text in (CUBE, CUBE.replace(b"OFF8", b"OFF\n# a comment\n8")):
        mesh = read_off(text, "cube.off")
        assert mesh.vertices.shape == (8, 3) and mesh.triangles.shape == (12, 3)
    points = sample_surface(mesh, 6000, 1)
    assert points.shape == (6000, 6) and np.array_equal(points, sample_surface(mesh, 6000, 1))
    on_face = np.isclose(points[:, :3], 0) | np.isclose(points[:, :3], 1)
    assert on_face.any(1).all()
    sides = [(np.isclose(points[:, axis], v)).mean() for axis in range(3) for v in (0, 1)]
    assert all(abs(share - 1 / 6) < 0.02 for share in sides)
    assert np.allclose(np.linalg.norm(points[:, 3:], axis=1), 1)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"PLY\n", "not an OFF mesh"), (CUBE[:60], "cut off"), (CUBE.replace(b"4 0 3 7 4", b"4 0 3 7 9"), "outside"),
        (CUBE.replace(b"4 0 3 7 4", b"4 0 3 7"), "lists 3"), (CUBE.replace(b"1 1 1", b"1 1 x"), "not a whole"),
        (CUBE.replace(b"1 1 1", b"1 1 nan"), "finite"), (b"", "not an OFF"),
    ],
)  # fmt: skip
def test_broken_meshes(data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_off(data, "shape.off")


def modelnet(root: Path, layout: str) -> Path:
    random = np.random.default_rng(0)
    folder = root / "ModelNet40"
    if layout == "off":
        for name in ("chair", "night_stand"):
            for split, count in (("train", 3), ("test", 2)):
                for i in range(count):
                    write(folder / name / split / f"{name}_{i:04d}.off", CUBE)
    elif layout == "txt":
        lists: dict[str, list[str]] = {"train": [], "test": []}
        for name in ("chair", "night_stand"):
            for i in range(5):
                table = random.normal(size=(50, 6))
                rows = "\n".join(",".join(f"{v:.5f}" for v in row) for row in table)
                write(folder / name / f"{name}_{i:04d}.txt", rows.encode())
                lists["train" if i < 3 else "test"].append(f"{name}_{i:04d}")
        for split, names in lists.items():
            write(folder / f"modelnet40_{split}.txt", "\n".join(names).encode())
    else:
        folder.mkdir(parents=True)
        for split, count in (("train", 6), ("test", 4)):
            with h5py.File(folder / f"ply_data_{split}0.h5", "w") as file:
                file["data"] = random.normal(size=(count, 50, 3)).astype(np.float32)
                file["normal"] = random.normal(size=(count, 50, 3)).astype(np.float32)
                file["label"] = np.arange(count, dtype=np.uint8)[:, None] % 2
        write(folder / "shape_names.txt", b"chair\nnight_stand\n")
    return folder


@pytest.mark.parametrize("layout", ["off", "txt", "h5"])
def test_modelnet_in_all_its_layouts(tmp_path: Path, layout: str) -> None:
    modelnet(tmp_path, layout)
    bundle = load("modelnet40", tmp_path, points=20)
    assert bundle.kind == "points" and bundle.input_shape == (20, 6)
    assert bundle.classes == ("chair", "night_stand") and len(bundle.train) == 6 and len(bundle.test) == 4
    x, y = bundle.train.batch([0, 5])
    assert x.shape == (2, 20, 6) and y.tolist() == ([0, 1])
    assert x[..., :3].norm(dim=-1).amax(1).tolist() == pytest.approx([1, 1])
    again = load("modelnet40", tmp_path, points=20)
    assert torch.equal(again.train.batch([0, 5])[0], x) and again.fingerprint == bundle.fingerprint
    few = load("modelnet40", tmp_path, points=10, channels=3, sampling="fps")
    assert few.input_shape == (10, 3)


def test_broken_modelnet(tmp_path: Path) -> None:
    folder = modelnet(tmp_path / "a", "txt")
    (folder / "chair/chair_0001.txt").unlink()
    with pytest.raises(DataError, match="names chair_0001"):
        load("modelnet40", tmp_path / "a", points=20)
    folder = modelnet(tmp_path / "b", "h5")
    whole = (folder / "ply_data_test0.h5").read_bytes()
    write(folder / "ply_data_test0.h5", whole[: len(whole) // 2])
    with pytest.raises(DataError, match="not a whole ModelNet HDF5"):
        load("modelnet40", tmp_path / "b", points=20)
    modelnet(tmp_path / "c", "txt")
    with pytest.raises(DataError, match="fewer than the 60"):
        load("modelnet40", tmp_path / "c", points=60)
    with pytest.raises(ArgumentError, match="sampling"):
        load("modelnet40", tmp_path / "c", sampling="best")


def grid_file(path: Path, grid: np.ndarray) -> None:
    buffer = io.BytesIO()
    np.save(buffer, grid)
    write(path, gzip.compress(buffer.getvalue()))


def test_grids(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for name in ("chair", "monitor"):
        grid_file(
            tmp_path / f"voxels/modelnet10_{name}.npy.gz", (random.random((8, 1, 4, 4, 4)) < 0.3).astype(np.uint8)
        )
    bundle = load("modelnet_grids", tmp_path)
    assert bundle.kind == "voxels" and bundle.input_shape == (1, 4, 4, 4) and bundle.classes == ("chair", "monitor")
    assert len(bundle.train) == 12 and sorted(bundle.test.labels.tolist()) == [0, 0, 1, 1]
    path = tmp_path / "voxels/modelnet10_chair.npy.gz"
    write(path, path.read_bytes()[:-20])
    with pytest.raises(DataError, match="not a whole gzip"):
        load("modelnet_grids", tmp_path)
    grid_file(path, np.full((2, 1, 4, 4, 4), 3))
    with pytest.raises(DataError, match="0 and 1"):
        load("modelnet_grids", tmp_path)


def test_lifted_digits() -> None:
    image = torch.zeros(2, 4, 5)
    image[0, 1, 2], image[0, 3, 4], image[1, 0, 0] = 1.0, 0.3, 0.01
    solid = lift(image, 4)
    assert solid.shape == (2, 1, 4, 4, 5) and solid.sum() == 3
    assert solid[0, 0, 3, 1, 2] == 1 and solid[0, 0, 1, 3, 4] == 1 and solid[1, 0, 0, 0, 0] == 1
    cubes = lift(image, 4, np.array([0, 1]))
    assert cubes.shape == (2, 1, 5, 5, 5) and cubes.sum() == 3


# --- LiDAR ---------------------------------------------------------------------------------------------------------


def sweep(n: int, channels: int = 4) -> bytes:
    return np.random.default_rng(0).normal(size=(n, channels)).astype("<f4").tobytes()


def test_sweeps_and_what_is_wrong_with_them(tmp_path: Path) -> None:
    path = write(tmp_path / "a.bin", sweep(10))
    assert read_sweep(path).shape == (10, 4)
    with pytest.raises(DataError, match="whole number of points"):
        read_sweep(write(tmp_path / "b.bin", sweep(10)[:-3]))
    with pytest.raises(DataError, match="whole number of points"):
        read_sweep(write(tmp_path / "empty.bin", b""))
    broken = np.frombuffer(sweep(10), "<f4").copy()
    broken[14] = np.nan
    with pytest.raises(DataError, match="point 3 is not finite"):
        read_sweep(write(tmp_path / "c.bin", broken.tobytes()))
    with pytest.raises(DataError, match="cannot be read"):
        read_sweep(tmp_path / "none.bin")


def test_semantic_kitti(tmp_path: Path) -> None:
    for sequence in ("00", "08", "11"):
        write(tmp_path / f"sequences/{sequence}/velodyne/000000.bin", sweep(4))
        labels = np.array([10, 252 | (7 << 16), 0, 81], "<u4").tobytes()
        write(tmp_path / f"sequences/{sequence}/labels/000000.label", labels)
    (train,) = semantic_kitti_scans(tmp_path, "train")
    assert train.name == "00/000000" and train.read().shape == (4, 4) and train.labels is not None
    assert read_semantic_labels(train.labels, 4).tolist() == [0, 0, -1, 18]
    assert [s.name for s in semantic_kitti_scans(tmp_path, "val")] == ["08/000000"]
    with pytest.raises(DataError, match="for 5 points"):
        read_semantic_labels(train.labels, 5)
    with pytest.raises(DataError, match="unknown class 2"):
        read_semantic_labels(write(tmp_path / "x.label", struct.pack("<I", 2)))
    with pytest.raises(ArgumentError, match="split"):
        semantic_kitti_scans(tmp_path, "valid")


CALIB = """P0: 1 0 0 0 0 1 0 0 0 0 1 0
R0_rect: 1 0 0 0 1 0 0 0 1
Tr_velo_to_cam: 0 -1 0 0 0 0 -1 0 1 0 0 0
"""


def test_kitti(tmp_path: Path) -> None:
    write(tmp_path / "training/velodyne/000001.bin", sweep(5))
    label = "Car 0.00 0 1.5 0 0 10 10 1.5 1.6 3.9 2.0 1.0 10.0 0.3\nDontCare -1 -1 -10 0 0 1 1 -1 -1 -1 0 0 0 -10\n"
    path = write(tmp_path / "training/label_2/000001.txt", label.encode())
    calibration = write(tmp_path / "training/calib/000001.txt", CALIB.encode())
    write(tmp_path / "ImageSets/val.txt", b"000001\n")
    for split in ("training", "val"):
        (scan,) = kitti_scans(tmp_path, split)
        assert scan.labels == path and scan.calibration == calibration
    assert [name for name, _ in read_kitti_objects(path)] == ["Car", "DontCare"]
    boxes, kinds = read_kitti_labels(path, calibration)
    # camera (right, down, forward) to LiDAR (forward, left, up), bottom to centre
    assert boxes[0].tolist() == pytest.approx([10, -2, -1 + 0.75, 3.9, 1.6, 1.5, -0.3 - math.pi / 2], abs=1e-5)
    assert kinds.tolist() == [0]
    with pytest.raises(DataError, match="is missing, so that"):
        kitti_scans(tmp_path, "val2")
    with pytest.raises(DataError, match="line 1 is not a class"):
        read_kitti_objects(write(tmp_path / "short.txt", b"Car 1 2 3\n"))
    with pytest.raises(DataError, match="lacks the matrix R0_rect"):
        read_kitti_labels(path, write(tmp_path / "calib.txt", b"P0: 1 2 3\n"))


def test_nuscenes(tmp_path: Path) -> None:
    for stamp in (1532402928147847, 1532402927647951):
        write(tmp_path / f"samples/LIDAR_TOP/n015__LIDAR_TOP__{stamp}.pcd.bin", sweep(6, 5))
    scans = nuscenes_scans(tmp_path)
    assert [s.name[-16:] for s in scans] == ["1532402927647951", "1532402928147847"]
    assert scans[0].read().shape == (6, 5)
    with pytest.raises(DataError, match="holds no sweeps"):
        nuscenes_scans(tmp_path, key_frames=False)


def test_the_real_sweeps(ranvier_data: Path) -> None:
    folder = ranvier_data / "lidar"
    for name, channels, size, count in (
        ("kitti_000008.bin", 4, 0.05, 17_238), ("nuscenes_sample.pcd.bin", 5, 0.1, 34_688),
        ("scannet_scene0000_00.bin", 6, 0.02, 40_684),
    ):  # fmt: skip
        if not (folder / name).is_file():
            pytest.skip(f"{name} is not there")
        points = torch.from_numpy(read_sweep(folder / name, channels))
        assert len(points) == count
        x, rows = voxelize(points[:, :3], points, size)
        assert 0.3 * count < len(x) < count and rows.min() == 0 and rows.max() == len(x) - 1
    bundle = load("modelnet_grids", ranvier_data)
    assert bundle.classes == ("chair", "monitor") and len(bundle.train) + len(bundle.test) == 890 + 466


def test_clouds_in_memory() -> None:
    clouds = torch.rand(5, 7, 3)
    samples = CloudSamples(clouds, torch.arange(5))
    assert torch.equal(samples[2][0], clouds[2]) and samples[2][1] == 2
    with pytest.raises(DataError, match="cloud 1"):
        CloudSamples(torch.stack([clouds[0], clouds[0] * float("nan")]), torch.arange(2))
    sphere = normalise_to_sphere(clouds)
    torch.testing.assert_close(sphere.mean(1), torch.zeros(5, 3), rtol=0, atol=1e-6)
