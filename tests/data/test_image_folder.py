"""Images in folders, one a class."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.data.whole import everything

from ranvier.data import load
from ranvier.data.images import ImageFileSamples
from ranvier.data.sets import image_folder
from ranvier.errors import ArgumentError, DataError, RanvierError


@pytest.mark.parametrize("in_memory", [True, False, "auto"])
def test_image_folder_reads_classes_by_name(make_images: Callable[..., Path], in_memory: Any) -> None:
    bundle = load("image_folder", path=make_images(), in_memory=in_memory)
    assert bundle.classes == ("cat", "dog") and bundle.input_shape == (3, 4, 6)
    x, y = everything(bundle)
    assert y.tolist() == [0, 0, 0, 1, 1, 1]
    assert (x[:, :, 0, 0] * 255).round().int().tolist() == [[0, 10 * c, i] for c in range(2) for i in range(3)]
    assert (bundle.test[5][0][:, 0, 0] * 255).round().tolist() == [100, 10, 2] and bundle.test[5][1] == 1
    assert bundle.mean == pytest.approx((0, 5 / 255, 1 / 255)) and bundle.std == pytest.approx(
        (1.0, 5 / 255, (2 / 3) ** 0.5 / 255)
    )
    assert isinstance(bundle.train, ImageFileSamples) == (in_memory is False)


def test_image_folder_from_a_zip_is_the_same_data(
    make_images: Callable[..., Path], write_zip: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make_images()
    packed = write_zip(folder, tmp_path / "pictures.zip", top="pictures/")
    one, two = load("image_folder", path=folder), load("image_folder", root=tmp_path, path="pictures.zip")
    assert one.fingerprint == two.fingerprint
    assert torch.equal(everything(one)[0], everything(two)[0])
    assert load("image_folder", path=packed, channels=1).fingerprint != one.fingerprint


def test_image_folder_is_decoded_once(make_images: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_images(splits=("train", "val"))
    first = load("image_folder", path=folder)
    with monkeypatch.context() as patch:
        patch.setattr(image_folder, "_decoded", lambda *_: pytest.fail("decoded again"))
        assert torch.equal(everything(load("image_folder", path=folder))[0], everything(first)[0])
    Image.fromarray(np.full((4, 6, 3), 77, np.uint8)).save(folder / "train/cat/0.png")
    changed = load("image_folder", path=folder)
    assert changed.fingerprint != first.fingerprint and everything(changed)[0][0, 0, 0, 0] == 77 / 255


def test_image_folder_large_sets_stay_in_their_files(
    make_images: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_folder, "IN_MEMORY_BYTES", 100)
    assert isinstance(load("image_folder", path=make_images()).train, ImageFileSamples)


def test_image_folder_of_different_sizes_needs_a_size(make_images: Callable[..., Path]) -> None:
    folder = make_images()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / "train/dog/1.png")
    with pytest.raises(DataError, match=r"train/dog/1.png: is 8 x 8 pixels but .* is 6 x 4 pixels; pass size"):
        load("image_folder", path=folder)
    assert load("image_folder", path=folder, size=5).input_shape == (3, 5, 5)


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize(
    ("file", "data", "message"),
    [
        ("train/cat/0.png", b"\x89PNG\r\n\x1a\n", "train/cat/0.png: is not a whole image"),
        ("train/cat/0.png", b"", "train/cat/0.png: is not a whole image"),
        ("train/cat/notes.txt", b"hello", "notes.txt: is not an image in a class folder"),
        ("train/stray.png", b"hello", "stray.png: is not an image in a class folder"),
        ("test/bird/0.png", b"hello", "classes that train/ has not: bird"),
    ],
)
def test_damaged_image_folders_are_named(
    make_images: Callable[..., Path], file: str, data: bytes, message: str, in_memory: bool
) -> None:
    folder = make_images()
    (folder / file).parent.mkdir(exist_ok=True)
    (folder / file).write_bytes(data)
    with pytest.raises(DataError, match=message):
        everything(load("image_folder", path=folder, in_memory=in_memory))


def test_image_folder_mistakes_are_explained(make_images: Callable[..., Path]) -> None:
    with pytest.raises(RanvierError, match=r"path=\.\.\."):
        load("image_folder", path=None)
    with pytest.raises(RanvierError, match=r"train/<class>/ and test/<class>/; found train"):
        load("image_folder", path=make_images("half", splits=("train",)))
    folder = make_images()
    for options in ({"size": 0}, {"channels": 2}, {"in_memory": "yes"}):
        with pytest.raises(ArgumentError, match=next(iter(options))):
            load("image_folder", path=folder, **options)
