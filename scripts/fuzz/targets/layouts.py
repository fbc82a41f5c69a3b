"""Data sets in the layouts of their authors, of which one file is damaged, and archives."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from fuzz.harness import Target
from fuzz.targets.alone import alone
from fuzz.targets.arrays import image, npy, off, spikes, sweep, wav
from fuzz.targets.recordings import aedat3, evt, nmnist

Files = Callable[[], Mapping[str, bytes]]
NOTHING_KEPT = patch.dict("os.environ", RANVIER_CACHE="/dev/null/none")  # every case reads the files


def _set(name: str, files: Files, hit: str, dataset: str, text: bool = False, **options: Any) -> Target:
    """A registered data set that lies in a folder `set`; its first training batch is read too."""
    levels = hit.count("/")

    def read(path: Path) -> object:
        from ranvier.data import load

        root = path.parents[levels]
        with NOTHING_KEPT:
            bundle = load(dataset, root.parent, path=root.name, **options)
            return bundle.train.batch(range(min(2, len(bundle.train)))), bundle.test.batch([0])

    return Target(
        name, cache(lambda: {f"set/{place}": data for place, data in files().items()}), f"set/{hit}", read, text
    )


def _file(name: str, file: str, sound: Callable[[], bytes], dataset: str, text: bool = False, **options: Any) -> Target:
    """A registered data set in one file."""

    def read(path: Path) -> object:
        from ranvier.data import load

        with NOTHING_KEPT:
            bundle = load(dataset, path.parent, path=path.name, **options)
            return bundle.train.batch([0]), bundle.test.batch([0])

    return alone(name, file, sound, read, text)


def zipped(files: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as writer:
        for name, data in files.items():
            writer.writestr(name, data)
    return file.getvalue()


def _pictures() -> dict[str, bytes]:
    return {f"{split}/{kind}/{kind}.png": image("PNG") for split in ("train", "test") for kind in "ab"}


def _meshes() -> dict[str, bytes]:
    return {f"{kind}/{split}/{kind}_1.off": off() for kind in ("bed", "sofa") for split in ("train", "test")}


def _resampled() -> dict[str, bytes]:
    rows = np.random.default_rng(0).normal(size=(20, 6))
    table = "\n".join(",".join(f"{v:.6f}" for v in row) for row in rows).encode()
    names = [f"bed_{i:04d}" for i in range(1, 3)]
    return {**{f"bed/{n}.txt": table for n in names}, "modelnet40_train.txt": b"bed_0001\n",
            "modelnet40_test.txt": b"bed_0002\n", "modelnet40_shape_names.txt": b"bed\n"}  # fmt: skip


def _shapes_h5() -> dict[str, bytes]:
    import h5py

    found: dict[str, bytes] = {"shape_names.txt": b"bed\nsofa\n"}
    for split in ("train", "test"):
        file = io.BytesIO()
        with h5py.File(file, "w") as writer:
            writer["data"] = np.random.default_rng(0).normal(size=(2, 16, 3)).astype(np.float32)
            writer["normal"] = np.random.default_rng(1).normal(size=(2, 16, 3)).astype(np.float32)
            writer["label"] = np.array([[0], [1]], np.uint8)
        found[f"ply_data_{split}0.h5"] = file.getvalue()
    return found


def _grids() -> dict[str, bytes]:
    values = (np.random.default_rng(0).random((4, 1, 4, 4, 4)) > 0.5).astype(np.uint8)
    return {f"set_{kind}.npy.gz": gzip.compress(npy(values)) for kind in ("bed", "sofa")}


def calibration() -> bytes:
    row = "1.0 0.0 0.0 0.1 0.0 1.0 0.0 0.2 0.0 0.0 1.0 0.3"
    square = "1.0 0.0 0.0 0.0 1.0 0.0 0.0 0.0 1.0"
    return "\n".join([*(f"P{i}: {row}" for i in range(4)), f"R0_rect: {square}", f"Tr_velo_to_cam: {row}"]).encode()


def _kitti() -> dict[str, bytes]:
    label = b"Car 0.00 0 -1.5 599.4 156.4 629.7 189.2 2.85 2.63 12.34 0.47 1.49 69.44 -1.56\n" * 3
    found = {"ImageSets/train.txt": b"000000\n", "ImageSets/val.txt": b"000001\n"}
    for frame in ("000000", "000001"):
        found |= {f"training/velodyne/{frame}.bin": sweep(), f"training/label_2/{frame}.txt": label,
                  f"training/calib/{frame}.txt": calibration()}  # fmt: skip
    return found


def _semantic() -> dict[str, bytes]:
    labels = np.array([10, 40, 50, 99] * 10, "<u4").tobytes()
    return {f"sequences/{s}/{kind}/000000.{end}": data for s in ("00", "08")
            for kind, end, data in (("velodyne", "bin", sweep()), ("labels", "label", labels))}  # fmt: skip


def _coco() -> dict[str, bytes]:
    note = {"id": 1, "image_id": 7, "category_id": 3, "bbox": [1.0, 2.0, 5.0, 4.0], "iscrowd": 0}
    document = {"images": [{"id": 7, "file_name": "7.jpg", "width": 12, "height": 12}], "annotations": [note],
                "categories": [{"id": 3, "name": "cat"}]}  # fmt: skip
    text = json.dumps(document).encode()
    return {**{f"annotations/instances_{s}2017.json": text for s in ("train", "val")},
            **{f"{s}2017/7.jpg": image("JPEG") for s in ("train", "val")}}  # fmt: skip


def _voc() -> dict[str, bytes]:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.arange(144, dtype=np.uint8).reshape(12, 12) % 21).save(file, "PNG")
    return {
        "ImageSets/Segmentation/train.txt": b"one\n", "ImageSets/Segmentation/val.txt": b"two\n",
        **{f"JPEGImages/{n}.jpg": image("JPEG") for n in ("one", "two")},
        **{f"SegmentationClass/{n}.png": file.getvalue() for n in ("one", "two")},
    }  # fmt: skip


def _cifar() -> dict[str, bytes]:
    record = bytes([3]) + bytes(range(256)) * 12
    return {f"{name}.bin": record for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")}


def _gestures() -> dict[str, bytes]:
    table = b"class,startTime_usec,endTime_usec\n1,0,90\n2,90,190\n"
    found = {"trials_to_train.txt": b"user01_led.aedat\n", "trials_to_test.txt": b"user24_led.aedat\n"}
    for name in ("user01_led", "user24_led"):
        found |= {f"{name}.aedat": aedat3(), f"{name}_labels.csv": table}
    return found


def _event_folder() -> dict[str, bytes]:
    return {f"{kind}/{i}.raw": evt(2) for kind in ("left", "right") for i in range(4)}


def _caltech() -> dict[str, bytes]:
    return {f"{kind}/image_{i:04d}.bin": nmnist() for kind in ("bear", "crab") for i in range(1, 12)}


def _spoken() -> dict[str, bytes]:
    return {f"recordings/{digit}_jackson_{take}.wav": wav(2000) for digit in range(2) for take in range(8)}


def _tokenizer() -> dict[str, Any]:
    vocab = {"a": 0, "b": 1, "ab": 2, " ": 3}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
            "pre_tokenizer": None, "post_processor": None, "decoder": None,
            "model": {"type": "BPE", "vocab": vocab, "merges": ["a b"]}}  # fmt: skip


def _read_zip(path: Path) -> object:
    from ranvier.data.archive import Archive

    archive = Archive(path)
    return [archive.read(name) for name in archive.members]


def _read_tokenizer(path: Path) -> object:
    from ranvier.data.text import load_tokenizer

    made = load_tokenizer(path)
    return made.encode("ab a") if made.kind != "numbers" else made


def _own_tokenizer() -> bytes:
    return json.dumps({"type": "chars", "characters": "ab \u00e9"}).encode()


TARGETS = (
    alone("zip", "set.zip", lambda: zipped({f"set/{n}": d for n, d in _pictures().items()}), _read_zip),
    _file("image_folder.zip", "set.zip", lambda: zipped(_pictures()), "image_folder", size=12),
    _set("image_folder.png", _pictures, "train/a/a.png", "image_folder", size=12),
    _set("cifar10.bin", _cifar, "data_batch_1.bin", "cifar10"),
    _set("modelnet40.off", _meshes, "bed/train/bed_1.off", "modelnet40", text=True, points=16),
    _set("modelnet40.txt", _resampled, "bed/bed_0001.txt", "modelnet40", text=True, points=16),
    _set("modelnet40.list", _resampled, "modelnet40_train.txt", "modelnet40", text=True, points=16),
    _set("modelnet40.h5", _shapes_h5, "ply_data_train0.h5", "modelnet40", points=16),
    _set("modelnet_grids", _grids, "set_bed.npy.gz", "modelnet_grids"),
    _set("kitti.label", _kitti, "training/label_2/000000.txt", "kitti", text=True, points=16),
    _set("kitti.calib", _kitti, "training/calib/000000.txt", "kitti", text=True, points=16),
    _set("kitti.velodyne", _kitti, "training/velodyne/000000.bin", "kitti", points=16),
    _set("kitti.list", _kitti, "ImageSets/train.txt", "kitti", text=True, points=16),
    _set("semantickitti.label", _semantic, "sequences/00/labels/000000.label", "semantickitti", points=16),
    _set("coco.json", _coco, "annotations/instances_train2017.json", "coco", text=True, size=16),
    _set("voc.list", _voc, "ImageSets/Segmentation/train.txt", "voc", text=True, size=16),
    _set("voc.png", _voc, "SegmentationClass/one.png", "voc", size=16),
    _set("dvs_gesture.csv", _gestures, "user01_led_labels.csv", "dvs_gesture", text=True, points=16,
         window=5e-5, hop=5e-5, min_events=2),
    _set("event_folder.raw", _event_folder, "left/0.raw", "event_folder", points=16),
    _set("ncaltech101.bin", _caltech, "bear/image_0001.bin", "ncaltech101", T=2, size=8),
    _set("fsdd.wav", _spoken, "recordings/0_jackson_0.wav", "fsdd"),
    _set("shd.h5", lambda: {f"shd_{split}.h5": spikes() for split in ("train", "test")}, "shd_train.h5", "shd"),
    _file("tokens.npy", "tokens.npy", lambda: npy(np.arange(400, dtype=np.uint16) % 50), "tokens", length=2,
          split=(0.8, 0.1, 0.1)),
    _file("text", "text.txt", lambda: ("the caf\u00e9 " * 20).encode(), "text", text=True, length=2,
          tokenizer="chars", split=(0.8, 0.1, 0.1)),
    alone("tokenizer.own", "tokenizer.json", _own_tokenizer, _read_tokenizer, text=True),
    alone("tokenizer.bpe", "tokenizer.json", lambda: json.dumps(_tokenizer()).encode(), _read_tokenizer, text=True),
)  # fmt: skip
