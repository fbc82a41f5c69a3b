"""Data sets for segmentation and detection, in files of their official layouts and rendered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ranvier.data import load
from ranvier.data.targets import IGNORED, objects
from ranvier.errors import ArgumentError, DataError

Image: Any = pytest.importorskip("PIL.Image")


def _save(path: Path, array: np.ndarray, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def _voc(root: Path) -> Path:
    base = root / "VOCdevkit" / "VOC2012"
    listings = base / "ImageSets" / "Segmentation"
    listings.mkdir(parents=True)
    for split, names in (("train", ("2007_000032", "2007_000039")), ("val", ("2007_000033",))):
        (listings / f"{split}.txt").write_text("\n".join(names) + "\n")
        for name in names:
            _save(base / "JPEGImages" / f"{name}.jpg", np.full((20, 40, 3), 200, np.uint8))
            drawn = np.zeros((20, 40), np.uint8)
            drawn[5:15, 10:30], drawn[4, 10:30] = 15, 255
            path = base / "SegmentationClass" / f"{name}.png"
            path.parent.mkdir(exist_ok=True)
            image = Image.new("P", (40, 20))
            image.putpalette([0, 0, 0] * 256)
            image.putdata(drawn.flatten().tolist())
            image.save(path)
    return base


def test_voc(tmp_path: Path) -> None:
    base = _voc(tmp_path)
    bundle = load("voc", tmp_path, size=40)
    assert (bundle.task, bundle.num_classes, len(bundle.train), len(bundle.test)) == ("segmentation", 21, 2, 1)
    x, y = bundle.train[0]
    assert x.shape == (3, 40, 40) and y.shape == (40, 40) and y.dtype == torch.int64
    assert (y[20:] == IGNORED).all() and (x[:, 20:] == 0).all()  # below the image
    assert (y[5:15, 10:30] == 15).all() and (y[4, 10:30] == IGNORED).all() and y[0, 0] == 0
    half = load("voc", tmp_path, size=20).train[0][1]
    assert (half[3:7, 6:14] == 15).all() and (half[10:] == IGNORED).all()
    (base / "SegmentationClass" / "2007_000032.png").unlink()
    with pytest.raises(DataError, match="2007_000032"):
        load("voc", tmp_path)
    with pytest.raises(ArgumentError, match="size"):
        load("voc", tmp_path, size=3)


def test_ade20k(tmp_path: Path) -> None:
    base = tmp_path / "ADEChallengeData2016"
    for split in ("training", "validation"):
        _save(base / "images" / split / "ADE_1.jpg", np.zeros((30, 30, 3), np.uint8))
        drawn = np.array([[0, 1, 150]] * 3, np.uint8).repeat(10, 0).repeat(10, 1)
        _save(base / "annotations" / split / "ADE_1.png", drawn)
    bundle = load("ade20k", tmp_path, size=30)
    y = bundle.test[0][1]
    assert bundle.num_classes == 150 and y[0, [0, 15, 25]].tolist() == [IGNORED, 0, 149]
    _save(base / "annotations" / "training" / "ADE_1.png", np.full((30, 30), 151, np.uint8))
    with pytest.raises(DataError, match="class outside"):
        load("ade20k", tmp_path, size=30).train[0]
    _save(base / "annotations" / "training" / "ADE_1.png", np.zeros((9, 9), np.uint8))
    with pytest.raises(DataError, match="9 x 9"):
        load("ade20k", tmp_path, size=30).train[0]
    (base / "images" / "training" / "ADE_1.jpg").write_bytes(b"\xff\xd8\xff not an image")
    with pytest.raises(DataError, match="whole image"):
        load("ade20k", tmp_path, size=30)


def _coco(root: Path, category: int = 90) -> None:
    base = root / "coco"
    (base / "annotations").mkdir(parents=True, exist_ok=True)
    for split in ("train", "val"):
        _save(base / f"{split}2017" / "000000000009.jpg", np.zeros((48, 64, 3), np.uint8))
        _save(base / f"{split}2017" / "000000000025.jpg", np.zeros((64, 64, 3), np.uint8))
        document = {
            "images": [{"id": 25, "file_name": "000000000025.jpg"}, {"id": 9, "file_name": "000000000009.jpg"}],
            "annotations": [
                {"id": 1, "image_id": 9, "category_id": category, "bbox": [8, 4, 16, 20], "iscrowd": 0, "area": 320},
                {"id": 2, "image_id": 9, "category_id": 1, "bbox": [0, 0, 64, 48], "iscrowd": 1, "area": 3072},
            ],
            "categories": [{"id": 90, "name": "toothbrush"}, {"id": 1, "name": "person"}],
        }
        (base / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(document))


def test_coco(tmp_path: Path) -> None:
    _coco(tmp_path)
    bundle = load("coco", tmp_path, size=32)
    assert bundle.classes == ("person", "toothbrush") and bundle.task == "detection"
    assert (len(bundle.train), len(bundle.test)) == (1, 2)  # an image without objects teaches nothing, but is tested
    x, y = bundle.train.batch([0])
    assert x.shape == (1, 3, 32, 32)
    assert y[0].tolist() == [[1, 4, 2, 12, 12, 0], [0, 0, 0, 32, 24, 1]]  # half the size; the crowd has level 1
    assert [k.tolist() for k in objects(bundle.test.batch([0, 1])[1])[1]] == [[1], []]
    _coco(tmp_path, category=7)
    with pytest.raises(DataError, match="unknown category"):
        load("coco", tmp_path)
    (tmp_path / "coco" / "annotations" / "instances_val2017.json").write_text("[]")
    with pytest.raises(DataError, match="instances_val2017"):
        load("coco", tmp_path)


def test_kitti(tmp_path: Path) -> None:
    base = tmp_path / "kitti" / "training"
    for folder in ("velodyne", "label_2", "calib"):
        (base / folder).mkdir(parents=True)
    sets = tmp_path / "kitti" / "ImageSets"
    sets.mkdir()
    random = np.random.default_rng(0)
    calibration = "R0_rect: 1 0 0 0 1 0 0 0 1\nTr_velo_to_cam: 0 -1 0 0 0 0 -1 0 1 0 0 0\n"
    line = "{} 0.00 {} 0.0 100 100 200 {} 1.5 1.6 3.9 2.0 1.0 20.0 -1.5708\n"
    for split, name in (("train", "000000"), ("val", "000001")):
        (sets / f"{split}.txt").write_text(name + "\n")
        cloud = random.uniform([0, -40, -3, 0], [70, 40, 1, 1], (50, 4)).astype("<f4")
        cloud[:5, 0] = -10  # behind the car: out of range
        (base / "velodyne" / f"{name}.bin").write_bytes(cloud.tobytes())
        (base / "calib" / f"{name}.txt").write_text(calibration)
        seen = [("Car", 0, 150), ("Van", 0, 150), ("Car", 2, 130), ("Car", 3, 110)]
        (base / "label_2" / f"{name}.txt").write_text("".join(line.format(*given) for given in seen))
    bundle = load("kitti", tmp_path, points=60)
    x, y = bundle.train.batch([0])
    assert x.shape == (1, 60, 4) and (x[..., 0] >= 0).all()
    assert torch.equal(x[0, 45:60], x[0, 44:45].expand(15, 4)) or torch.isin(x[0, 45:], x[0, :45]).all()
    assert y.shape == (1, 3, 9) and y[0, :, -1].tolist() == [0, 2, 3]
    assert y[0, 0, 1:4].tolist() == pytest.approx([20.0, -2.0, -0.25]) and y[0, 0, 4:7].tolist() == pytest.approx(
        [3.9, 1.6, 1.5]
    )
    assert [len(k) for k in objects(y)[1]] == [2]  # what KITTI does not count is not learnt
    assert torch.equal(bundle.train.batch([0])[0], x)
    assert load("kitti", tmp_path, points=20).train[0][0].shape == (20, 4)
    with pytest.raises(ArgumentError, match="range"):
        load("kitti", tmp_path, range=[0, 0, 0, 1, 1, -1])
    (base / "label_2" / "000000.txt").unlink()
    with pytest.raises(DataError, match="label_2"):
        load("kitti", tmp_path)


def test_semantickitti(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for sequence in ("00", "08"):
        folder = tmp_path / "SemanticKITTI" / "dataset" / "sequences" / sequence
        (folder / "velodyne").mkdir(parents=True)
        (folder / "labels").mkdir()
        (folder / "velodyne" / "000000.bin").write_bytes(random.uniform(-20, 20, (40, 4)).astype("<f4").tobytes())
        raw = np.array([10, 0, 40, 72] * 10, "<u4") | (7 << 16)  # car, unlabelled, road, terrain of an instance
        (folder / "labels" / "000000.label").write_bytes(raw.tobytes())
    bundle = load("semantickitti", tmp_path, points=50)
    x, y = bundle.train[0]
    assert x.shape == (50, 4) and y[:4].tolist() == [0, IGNORED, 8, 16] and (y[40:] == IGNORED).all()
    assert torch.equal(x[40:], x[:10].flip(0)) or torch.isin(x[40:], x[:40]).all()
    few = load("semantickitti", tmp_path, points=20)
    assert torch.isin(few.train[0][0], x).all() and few.task == "segmentation"
    label = tmp_path / "SemanticKITTI" / "dataset" / "sequences" / "00" / "labels" / "000000.label"
    label.write_bytes(label.read_bytes()[:-40])
    with pytest.raises(DataError, match="fewer than"):
        bundle.train[0]


def test_rendered_scenes_are_the_same_everywhere_and_consistent() -> None:
    options = {"scenes": 8, "test_scenes": 3}
    boxes, masks = load("digit_scenes", **options), load("digit_scene_masks", **options)
    assert torch.equal(boxes.train[5][0], masks.train[5][0])
    assert load("digit_scenes", **options).fingerprint == boxes.fingerprint
    assert load("digit_scenes", **options, seed=1).fingerprint != boxes.fingerprint
    for i in range(8):
        own, kinds, _ = (part[0] for part in objects(boxes.train.batch([i])[1]))
        mask = masks.train[i][1]
        assert set((mask.unique() - 1).tolist()) - {-1} <= set(kinds.tolist())
        for (x1, y1, x2, y2), kind in zip(own.int().tolist(), kinds.tolist(), strict=True):
            assert 0 <= x1 < x2 <= 64 and 0 <= y1 < y2 <= 64 and (mask[y1:y2, x1:x2] == kind + 1).any()
    rooms, points = load("digit_rooms", **options), load("digit_room_labels", **options)
    cloud, rows = rooms.train.batch([0])
    labels = points.train[0][1]
    assert torch.equal(cloud[0], points.train[0][0]) and (labels == 0).sum() == 512
    for box, kind in zip(*(part[0] for part in objects(rows)[:2]), strict=True):
        local = cloud[0, labels == kind + 1, :3] - box[:3]
        cos, sin = box[6].cos(), box[6].sin()
        along, through = local[:, 0] * cos + local[:, 1] * sin, local[:, 1] * cos - local[:, 0] * sin
        inside = (along.abs() < box[3] / 2 + 0.1) & (through.abs() < box[4] / 2 + 0.1) & (local[:, 2].abs() < 0.8)
        assert inside.sum() >= 100  # of another digit of the same class there may be more
    assert load("digit_rooms", **options, one_class=True).classes == ("digit",)
    with pytest.raises(ArgumentError, match="smallest"):
        load("digit_scenes", smallest=50, largest=40)
    with pytest.raises(ArgumentError, match="source"):
        load("digit_scenes", source="svhn")
