"""`load` and `list_datasets`, and the sets of images by their official layouts."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.data.whole import everything

from ranvier.data import DATASETS, ArraySamples, DatasetEntry, Parts, list_datasets, load
from ranvier.data.sets import cifar10
from ranvier.errors import ArgumentError, DataError, UnknownNameError

# load and list_datasets


def test_unknown_names_and_options_are_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RANVIER_DATA", raising=False)
    with pytest.raises(UnknownNameError, match="did you mean 'mnist'"):
        load("mnst")
    with pytest.raises(ArgumentError, match="did you mean 'train_size'"):
        load("digits", train_siz=3)
    with pytest.raises(ArgumentError, match=r"'nmnist' takes no option 'split'; did you mean 'split_by'"):
        load("nmnist", split="time")
    with pytest.raises(DataError, match=r"pass root=\.\.\. \(--data-root\), or set RANVIER_DATA.*MNIST/raw"):
        load("mnist")
    with pytest.raises(DataError, match="nowhere does not exist"):
        load("mnist", root=tmp_path / "nowhere")
    for name in ("mnist", "cifar10", "nmnist"):
        with pytest.raises(DataError, match=f"'{name}' is not in"):
            load(name, root=tmp_path)
    with pytest.raises(DataError, match="elsewhere does not exist"):
        load("cifar10", root=tmp_path, path="elsewhere")


@pytest.mark.parametrize("size", [0, 1438, 2.5, True])
def test_bad_sizes(size: Any) -> None:
    with pytest.raises(ArgumentError, match="train_size must be an integer from 1 to 1437"):
        load("digits", train_size=size)


def test_list_datasets_says_what_is_here(mnist_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANVIER_DATA", raising=False)
    nowhere = {info.name: info for info in list_datasets()}
    assert {"digits", "mnist", "cifar10", "image_folder", "nmnist"} <= set(nowhere)
    assert [name for name, info in nowhere.items() if info.available] == [
        "digit_room_labels", "digit_rooms", "digit_scene_masks", "digit_scenes", "digits", "motion", "sdigits",
        "sdigits_whole",
    ]  # fmt: skip
    assert all(info.how for info in nowhere.values()) and nowhere["nmnist"].kind == "event"
    assert nowhere["nmnist"].options["T"] == 10
    here = {info.name: info for info in list_datasets(mnist_folder)}
    assert here["mnist"].available and here["mnist"].path == str(mnist_folder / "MNIST/raw")
    monkeypatch.setenv("RANVIER_DATA", str(mnist_folder))
    assert load("mnist").fingerprint == load("mnist", root=mnist_folder).fingerprint
    assert set(DATASETS) == set(nowhere)


def test_a_data_set_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(root: Path | None, levels: int = 2) -> Parts:
        samples = ArraySamples(torch.arange(8, dtype=torch.uint8).view(8, 1, 1, 1) % levels, torch.arange(8) % 2)
        return Parts(samples, samples, ("even", "odd"), content=str(root))

    monkeypatch.setattr(DATASETS, "_entries", dict(DATASETS))
    DATASETS.register("mine")(DatasetEntry(kind="static", load=read, find=lambda root: root, how="Make it."))
    bundle = load("mine", root=tmp_path, levels=4, test_size=2)
    assert bundle.input_shape == (1, 1, 1) and bundle.options["levels"] == 4 and len(bundle.test) == 2
    assert next(info for info in list_datasets(tmp_path) if info.name == "mine").available


# digits


def test_digits_are_the_fixed_split_of_scikit_learn() -> None:
    from sklearn.datasets import load_digits

    bundle = load("digits")
    assert (bundle.kind, bundle.input_shape, bundle.num_classes, bundle.version) == ("static", (1, 8, 8), 10, 1)
    assert (len(bundle.train), len(bundle.test)) == (1437, 360)
    images, labels = load_digits(return_X_y=True)
    ours = {(tuple((x * 16).int().flatten().tolist()), y) for part in (bundle.train, bundle.test) for x, y in part}
    assert ours == {(tuple(int(v) for v in image), int(y)) for image, y in zip(images, labels, strict=True)}
    shares = bundle.test.labels.bincount() / torch.from_numpy(labels).bincount()
    assert (shares - 360 / 1797).abs().max() < 0.006
    x, _ = everything(bundle)
    assert x.min() == 0 and x.max() == 1
    assert bundle.mean is not None and bundle.std is not None
    assert x.mean().item() == pytest.approx(bundle.mean[0]) and x.std(correction=0).item() == pytest.approx(
        bundle.std[0]
    )


def test_fingerprints_do_not_change_and_tell_options_apart() -> None:
    assert load("digits").fingerprint == DIGITS_FINGERPRINT
    some = load("digits", train_size=200)
    assert some.fingerprint not in (DIGITS_FINGERPRINT, load("digits", test_size=200).fingerprint)
    assert len(some.train) == 200 and some.train.labels.bincount().min() >= 19
    assert some.options == {"train_size": 200, "test_size": None}


DIGITS_FINGERPRINT = "8d4f0d1f23c50cf774298beec422a5b109416fd9c87dbb777ed8f4acf374dcd3"


# MNIST


def test_mnist_in_the_official_layout(mnist_folder: Path) -> None:
    bundle = load("mnist", root=mnist_folder)
    assert bundle.input_shape == (1, 28, 28) and (len(bundle.train), len(bundle.test)) == (30, 20)
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.integers(0, 256, (30, 28, 28), np.uint8))
    x, y = everything(bundle)
    assert torch.equal(x, pixels.unsqueeze(1) / 255) and y.tolist() == [i % 10 for i in range(30)]


def test_mnist_plain_files_directly_in_the_root(mnist_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "flat").mkdir()
    for file in (mnist_folder / "MNIST/raw").iterdir():
        data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        (tmp_path / "flat" / file.name.removesuffix(".gz")).write_bytes(data)
    plain, zipped = load("mnist", root=tmp_path / "flat"), load("mnist", root=mnist_folder)
    assert plain.fingerprint == zipped.fingerprint
    assert load("mnist", path=str(tmp_path / "flat")).fingerprint == zipped.fingerprint


Damage = Callable[[bytes], bytes]


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("train-images-idx3-ubyte.gz", lambda d: d[: len(d) // 2], "cannot be read"),
        ("train-images-idx3-ubyte.gz", lambda d: d[:3], "cannot be read"),
        ("train-images-idx3-ubyte.gz", lambda d: d[:500] + b"\0\0\0" + d[503:], "cannot be read"),
        ("train-images-idx3-ubyte.gz", lambda d: b"", "is not an IDX file.*starts with nothing"),
        ("train-images-idx3-ubyte.gz", lambda d: b"<html>", "is not an IDX file of 3-D"),
        ("train-images-idx3-ubyte.gz", lambda d: gzip.compress(gzip.decompress(d)[:-1]), "holds only 23519"),
        ("train-images-idx3-ubyte.gz", lambda d: gzip.compress(gzip.decompress(d) + b"x"), "holds more"),
        ("train-images-idx3-ubyte.gz", lambda d: gzip.decompress(d)[:9], "truncated in its header"),
        ("train-images-idx3-ubyte.gz", lambda d: bytes([0, 0, 8, 3]) + b"\xff" * 12, "impossible shape"),
        ("train-labels-idx1-ubyte", lambda d: d[:7] + bytes([29]) + d[8:-1], "29 labels for the 30 images"),
        ("train-labels-idx1-ubyte", lambda d: d[:-1] + bytes([10]), "label 10"),
        ("train-labels-idx1-ubyte", lambda d: bytes([0, 0, 8, 3]) + d[4:], "is not an IDX file of 1-D"),
        ("t10k-labels-idx1-ubyte", None, "has neither t10k-labels"),
    ],
)
def test_damaged_mnist_is_named(mnist_folder: Path, name: str, damage: Damage | None, message: str) -> None:
    file = mnist_folder / "MNIST/raw" / name
    if damage is None:
        file.unlink()
    else:
        file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(DataError, match=message) as error:
        load("mnist", root=mnist_folder)
    assert name in str(error.value)


def test_real_mnist(ranvier_data: Path) -> None:
    bundle = load("mnist", root=ranvier_data)
    assert (len(bundle.train), len(bundle.test)) == (60_000, 10_000)
    assert bundle.mean is not None and bundle.mean[0] == pytest.approx(0.1307, abs=5e-5)
    assert bundle.std is not None and bundle.std[0] == pytest.approx(0.3081, abs=5e-5)
    assert bundle.train.labels[:5].tolist() == [5, 0, 4, 1, 9]


# CIFAR-10


@pytest.fixture
def cifar_binary(tmp_path: Path) -> Path:
    folder = tmp_path / "data/cifar-10-batches-bin"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(2)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        records = rng.integers(0, 256, (4, 3073), np.uint8)
        records[:, 0] = rng.integers(0, 10, 4)
        (folder / f"{name}.bin").write_bytes(records.tobytes())
    return folder


def test_cifar10_binary_version(cifar_binary: Path) -> None:
    bundle = load("cifar10", root=cifar_binary.parent)
    assert (len(bundle.train), len(bundle.test), bundle.input_shape) == (20, 4, (3, 32, 32))
    raw = (cifar_binary / "data_batch_2.bin").read_bytes()[3073 : 2 * 3073]  # its second record, the sixth overall
    x, y = bundle.train[5]
    assert y == raw[0] and (x * 255).round().byte().flatten().tolist() == list(raw[1:])
    assert bundle.classes[3] == "cat"


def test_cifar10_averaged_to_fewer_pixels(cifar_binary: Path) -> None:
    full, small = (load("cifar10", root=cifar_binary.parent, size=size) for size in (32, 8))
    assert small.input_shape == (3, 8, 8) and small.fingerprint != full.fingerprint
    expected = torch.nn.functional.avg_pool2d(everything(full)[0], 4)
    assert (everything(small)[0] - expected).abs().max() <= 0.5 / 255 + 1e-6
    with pytest.raises(ArgumentError, match="size must be"):
        load("cifar10", root=cifar_binary.parent, size=10)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: d[:-1], "whole number"),
        (lambda d: b"", "whole number"),
        (lambda d: bytes([11]) + d[1:], "record 0 has the label 11"),
        (None, "cannot be read"),
    ],
)
def test_damaged_cifar10_is_named(cifar_binary: Path, damage: Damage | None, message: str) -> None:
    file = cifar_binary / "data_batch_3.bin"
    if damage is None:
        file.unlink()
    else:
        file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(DataError, match=f"data_batch_3.bin: .*{message}"):
        load("cifar10", root=cifar_binary.parent)


def test_cifar10_from_image_folders_and_foreign_ones(make_images: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_images("cifar10", classes=cifar10.CLASSES, size=(32, 32), each=1)
    assert len(load("cifar10", root=tmp_path).train) == 10
    shutil.rmtree(folder / "train/cat")
    shutil.rmtree(folder / "test/cat")
    with pytest.raises(DataError, match=r"cifar10: is not CIFAR-10: 9 classes"):
        load("cifar10", root=tmp_path)


@pytest.mark.slow
def test_real_cifar10(ranvier_data: Path) -> None:
    bundle = load("cifar10", root=ranvier_data)
    assert (len(bundle.train), len(bundle.test)) == (50_000, 10_000) and bundle.classes == cifar10.CLASSES
    assert bundle.train.labels.bincount().tolist() == [5000] * 10
    assert bundle.mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=1e-3)
    assert bundle.std == pytest.approx((0.2470, 0.2435, 0.2616), abs=3e-3)
    assert load("cifar10", root=ranvier_data).fingerprint == bundle.fingerprint
    assert load("scifar10", ranvier_data, size=8, by="rows").input_shape == (8, 24)  # here, since decoding takes long
