"""Event data sets and the images that they were recorded from, in small files of the official layouts."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ranvier.data import load
from ranvier.data.events.aedat2 import read_aedat2
from ranvier.data.samples import Joined, subset
from ranvier.errors import ArgumentError, DataError, ShapeError

CLASSES = ("BACKGROUND_Google", "anchor", "ant")


def five_bytes(events: list[tuple[int, int, int, int]]) -> bytes:
    """t, x, y, p as N-MNIST and N-Caltech101 have them."""
    return b"".join(bytes([x, y, (p << 7) | (t >> 16), (t >> 8) & 255, t & 255]) for t, x, y, p in events)


def picture(path: Path, colour: tuple[int, int, int], size: tuple[int, int] = (30, 20), mode: str = "RGB") -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour if mode == "RGB" else colour[0]).save(path)


@pytest.fixture
def caltech(tmp_path: Path) -> Path:
    for number, name in enumerate((*CLASSES, "Faces")):
        for i in range(1, 11):
            picture(tmp_path / "101_ObjectCategories" / name / f"image_{i:04d}.png", (40 * number, 10 * i, 0))
            if name != "Faces":
                recording = tmp_path / "N-Caltech101" / "Caltech101" / name / f"image_{i:04d}.bin"
                recording.parent.mkdir(parents=True, exist_ok=True)
                corner = (0, 0, 0, 1), (99, 9 + i, 7, 1)
                recording.write_bytes(five_bytes([corner[0], (10, 3, 2, 0), (60, 3, 2, 1), corner[1]]))
    (tmp_path / "N-Caltech101" / "Caltech101_annotations" / "ant").mkdir(parents=True)
    (tmp_path / "N-Caltech101" / "Caltech101_annotations" / "ant" / "annotation_0001.bin").write_bytes(b"xx")
    return tmp_path


def test_caltech_pair_has_one_split_and_one_set_of_keys(caltech: Path) -> None:
    images, events = load("caltech101", caltech, size=12), load("ncaltech101", caltech, T=2, size=8)
    assert images.classes == events.classes == CLASSES
    assert len(images.train) == len(events.train) == 27 and len(images.test) == len(events.test) == 3
    assert images.train.keys == events.train.keys and images.test.keys == events.test.keys
    assert events.test.keys is not None and "anchor/image_0010" in events.test.keys
    assert events.kind == "event" and images.kind == "static"
    x, y = images.train[9]
    assert y == 1 and x.shape == (3, 12, 12)
    torch.testing.assert_close(x[:, 0, 0] * 255, torch.tensor([40.0, 10.0, 0.0]))
    assert load("caltech101", caltech, background=False).num_classes == 2


def test_frames_have_the_extent_of_the_recording(caltech: Path) -> None:
    events = load("ncaltech101", caltech, T=2, size=8, in_memory=False)
    x, _ = events.train[0]  # 11 pixels wide, 8 high, resized to 8 by 8
    assert x.shape == (2, 2, 8, 8) and x.dtype == torch.float32
    assert x[0, 1, 0, 0] == 1 and x[1, 1, 7, 7] == 1
    row = x[0, 0, 2]  # the event at column 3 of 0 to 10: 2.1 of 0 to 7
    torch.testing.assert_close(row[2], torch.tensor(1 - abs(2 * 10 / 7 - 3)), rtol=1e-4, atol=1e-4)
    kept = load("ncaltech101", caltech, T=2, size=8)
    torch.testing.assert_close(kept.train[0][0], x, rtol=1e-3, atol=1e-3)
    assert torch.equal(kept.train.batch([3, 0])[0][:, 1], kept.train[0][0])
    again = load("ncaltech101", caltech, T=2, size=8)
    assert torch.equal(again.test[2][0], kept.test[2][0]) and again.fingerprint == kept.fingerprint


def test_official_counts_of_caltech() -> None:
    """8,709 recordings; the nearest whole number to 90 % of each class trains: 7,839, which leaves 870."""
    from ranvier.data.squash import by_share

    sizes = [
        467, 55, 800, 42, 42, 47, 54, 46, 33, 128, 98, 43, 85, 91, 50, 43, 123, 47, 59, 62, 107, 47, 69, 73, 70, 50, 51,
        57, 67, 52, 65, 68, 75, 64, 53, 64, 85, 435, 67, 67, 45, 34, 34, 51, 99, 100, 42, 54, 88, 80, 31, 64, 86, 114,
        61, 81, 200, 78, 41, 66, 43, 40, 87, 32, 76, 798, 55, 35, 39, 47, 38, 45, 53, 34, 57, 82, 59, 49, 40, 63, 39,
        84, 57, 35, 64, 45, 86, 59, 64, 35, 85, 49, 86, 75, 239, 37, 59, 34, 56, 39, 60,
    ]  # fmt: skip
    assert len(sizes) == 101 and sum(sizes) == 8709
    train, test = by_share(np.repeat(np.arange(101), sizes).tolist(), 0.9)
    assert (len(train), len(test)) == (7839, 870)


@pytest.fixture
def cep(tmp_path: Path) -> Path:
    scipy_io: Any = pytest.importorskip("scipy.io")
    folder = tmp_path / "CEP-DVS"
    (folder / "data" / "MAT" / "img").mkdir(parents=True)
    lines = ["a header"]
    for number in range(20):
        name = ("fish", "vehicles_2")[number // 10]
        lines.append(f"{number} train img {number}.png {name} rest")
        picture(folder / "data" / "img" / f"{number}.png", (number, 0, 0))
        table = {"x": [[1], [5]], "y": [[2], [7]], "ts": [[10 + number], [90]], "p": [[-1], [1]]}
        scipy_io.savemat(folder / "data" / "MAT" / "img" / f"{number}.mat", {k: np.array(v) for k, v in table.items()})
    (folder / "pathFile.csv").write_text("\n".join(lines))
    return tmp_path


def test_cep_pair(cep: Path) -> None:
    images, events = load("cep_images", cep, size=6), load("cep_dvs", cep, T=2, size=8)
    assert images.classes == events.classes and len(events.classes) == 20
    assert events.train.keys == [str(n) for n in (*range(5), *range(10, 15))] == images.train.keys
    assert events.test.keys == ["5", "6", "15", "16"]
    assert events.train.labels.tolist() == [1] * 5 + [19] * 5
    x, _ = events.train[0]
    assert x[0, 0].sum() > 0 and x[1, 1, 7, 7] == 1 and x[0, 1].sum() == 0
    torch.testing.assert_close(images.train[7][0][0] * 255, torch.full((6, 6), 12.0))
    (cep / "CEP-DVS" / "data" / "MAT" / "img" / "3.mat").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"3.mat: is not a MATLAB file"):
        load("cep_dvs", cep, T=3, size=8)


@pytest.fixture
def omniglot(tmp_path: Path) -> Path:
    faery: Any = pytest.importorskip("faery")
    for half, alphabet in (("background", "Greek"), ("evaluation", "Angelic")):
        for c in (1, 2):
            character = f"character{c:02d}"
            for drawer in range(1, 21):
                image = tmp_path / "omniglot" / f"images_{half}" / alphabet / character / f"000{c}_{drawer:02d}.png"
                picture(image, (drawer, 0, 0), (21, 21), "L")
            folder = tmp_path / "N-Omniglot" / f"dvs_{half}" / alphabet / character
            folder.mkdir(parents=True)
            rows = ["number,start,end"]
            events: list[tuple[int, int, int, bool]] = []
            for drawer in range(20):
                start = 1000 * drawer
                rows.append(f"{drawer},{start},{start + 900}")
                events += [(start, 54, 4, True), (start + 10, 54, 4, True), (start + 800, 100 + drawer, 50, False)]
                events += [(start + 950, 200, 200, True)]  # between two drawings
            array = np.array(events, dtype=faery.EVENTS_DTYPE)
            stream = faery.events_stream_from_array(array, dimensions=(346, 260))
            stream.to_file(folder / f"000{c}.aedat4")
            (folder / f"000{c}.csv").write_text("\n".join(rows))
    return tmp_path


def test_omniglot_pair(omniglot: Path) -> None:
    images, events = load("omniglot", omniglot, size=7), load("nomniglot", omniglot, T=3, size=28, values="count")
    expected = tuple(f"{a}/character0{c}" for a in ("Greek", "Angelic") for c in (1, 2))
    assert images.classes == events.classes == expected
    assert len(images.train) == len(events.train) == 60 and len(images.test) == len(events.test) == 20
    assert set(images.train.keys or ()) == set(events.train.keys or ())
    assert set(images.test.keys or ()) == set(events.test.keys or ())
    x, _ = events.train[0]
    assert x.shape == (3, 2, 28, 28) and x[0, 1, 0, 0] == 2 and x.sum(0)[1].sum() == 2
    peak = load("nomniglot", omniglot, T=3, size=28)
    assert peak.train[0][0].max() == 1
    value = images.train[0][0]
    assert value.shape == (1, 7, 7) and 0 < float(value[0, 0, 0]) < 0.1


def aedat2(events: list[tuple[int, int, int, int]]) -> bytes:
    words = b"".join(struct.pack(">II", (y << 22) | (x << 12) | (p << 11), t) for t, x, y, p in events)
    return b"#!AER-DAT2.0\r\n# a comment\r\n" + words


def test_cifar10_dvs(tmp_path: Path) -> None:
    for name in ("airplane", "cat"):
        folder = tmp_path / "CIFAR10-DVS" / name
        folder.mkdir(parents=True)
        for n in range(10):
            (folder / f"cifar10_{name}_{n}.aedat").write_bytes(aedat2([(5, 0, 127, 0), (50, 127, 10, 1)]))
    bundle = load("cifar10_dvs", tmp_path, T=2, size=None)
    assert bundle.classes[3] == "cat" and len(bundle.train) == 18 and len(bundle.test) == 2
    assert bundle.train.labels.tolist() == [0] * 9 + [3] * 9
    x, _ = bundle.train[0]
    assert x.shape == (2, 2, 128, 128) and x.sum() == 2
    assert x[0, 1, 127, 0] == 1 and x[1, 0, 0, 117] == 1
    assert load("cifar10_dvs", tmp_path, T=2).input_shape == (2, 2, 48, 48)


def test_aedat2_by_hand() -> None:
    dvs = aedat2([(9, 3, 4, 1), (7, 1, 2, 0)])
    events = read_aedat2(dvs + struct.pack(">II", 1 << 31, 8), "here")
    assert events.t.tolist() == [7, 9] and events.x.tolist() == [1, 3] and events.y.tolist() == [2, 4]
    assert events.p.tolist() == [0, 1]
    for data, say in (
        (dvs[:-3], "cut off"),
        (b"abc", "not an AEDAT 2.0"),
        (aedat2([(0, 200, 3, 1)]), "off the sensor"),
    ):
        with pytest.raises(DataError, match=say):
            read_aedat2(data, "here")


def test_still_frames(tmp_path: Path) -> None:
    bundle = load("still_frames", tmp_path, of="digits", T=3, size=12)
    assert bundle.input_shape == (3, 2, 12, 12) and bundle.kind == "event" and bundle.num_classes == 10
    x, y = bundle.train[5]
    image, label = load("digits").train[5]
    assert y == label and torch.equal(x, x[:1, :1].expand_as(x))
    plain = load("still_frames", tmp_path, of="digits", T=2).train[5][0]
    assert torch.equal(plain[1, 1], image[0])
    for options in ({"of": "nmnist"}, {"of": "digits", "T": 0}, {"of": "digits", "channel": "red"}):
        with pytest.raises(ArgumentError):
            load("still_frames", tmp_path, **options)


def test_mnist_and_its_recordings_share_their_keys(ranvier_data: Path) -> None:
    images, events = load("mnist", ranvier_data), load("nmnist", ranvier_data, T=2)
    place = {key: row for row, key in enumerate(images.train.keys or ())}
    assert events.train.keys is not None and events.test.keys is not None
    for i in (0, 17, 999):
        assert images.train.labels[place[events.train.keys[i]]] == events.train.labels[i]
    assert sorted(events.test.keys)[:2] == ["test/1", "test/10"]
    lazy = load("nmnist", ranvier_data, T=2, in_memory=False)
    assert lazy.train.keys == events.train.keys
    # a recording looks like its own image more than like the next one
    x, _ = events.train.batch(range(50))
    seen = x.sum((0, 2))[:, 3:31, 3:31].flatten(1)
    pictures = images.train.batch([place[key] for key in events.train.keys[:50]])[0][:, 0].flatten(1)
    seen, pictures = (f - f.mean(1, keepdim=True) for f in (seen, pictures))
    alike = torch.nn.functional.normalize(seen) @ torch.nn.functional.normalize(pictures).T
    assert float((alike.argmax(1) == torch.arange(50)).float().mean()) > 0.2  # chance is 0.02


def test_joined_and_balanced() -> None:
    from ranvier.data.order import balanced
    from ranvier.data.split import folds

    digits = load("digits")
    both = Joined((digits.train, digits.test))
    cut = len(digits.train)
    x, y = both.batch([cut + 2, 0, cut])
    assert torch.equal(x[0], digits.test[2][0]) and torch.equal(x[1], digits.train[0][0]) and y[2] == digits.test[0][1]
    assert both.batch([])[0].shape[0] == 0
    labels = np.array([0] * 90 + [1] * 10)
    order = balanced(labels, 1, 2)
    assert np.array_equal(order, balanced(labels, 1, 2)) and len(order) == 100
    many = np.concatenate([balanced(labels, 1, epoch) for epoch in range(30)])
    assert abs((labels[many] == 1).mean() - 0.5) < 0.05 and set(many) == set(range(100))
    parts = folds(labels, 5)
    assert sorted(np.concatenate(parts).tolist()) == list(range(100)) and {len(p) for p in parts} == {20}
    assert all((labels[p] == 1).sum() == 2 for p in parts)
    with pytest.raises(ArgumentError, match="smallest class"):
        folds(labels, 11)
    assert subset(both, [1]).keys is None


@pytest.mark.parametrize(
    ("name", "options"),
    [("ncaltech101", {"T": 0}), ("ncaltech101", {"in_memory": "maybe"}), ("caltech101", {"size": 0})],
)
def test_bad_options(caltech: Path, name: str, options: dict[str, Any]) -> None:
    with pytest.raises((ArgumentError, ShapeError)):
        load(name, caltech, **options)


@pytest.mark.parametrize("name", ["ncaltech101", "caltech101", "cep_dvs", "cep_images", "nomniglot", "omniglot"])
def test_absent_and_empty_sets(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="is not in"):
        load(name, tmp_path)
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "readme.txt").write_text("nothing")
    with pytest.raises(DataError, match="has no"):
        load(name, tmp_path, path="some")
