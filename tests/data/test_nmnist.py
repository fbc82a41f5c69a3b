"""N-MNIST: its recordings, folders, archives and mistakes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.data.whole import everything

from ranvier.data import load, to_frames
from ranvier.data.sets import nmnist
from ranvier.errors import ArgumentError, DataError


def test_recording_format(write_recording: Callable[..., bytes]) -> None:
    t, x, y, p = [0, 70_000, 8_388_607], [0, 33, 5], [33, 0, 6], [1, 0, 1]
    e = nmnist.read_recording(write_recording(t, x, y, p), "r")
    assert [e.t.tolist(), e.x.tolist(), e.y.tolist(), e.p.tolist()] == [t, x, y, p]
    wrapped = nmnist.read_recording(write_recording([5, 6, 7], [1, 0, 2], [1, 240, 2], [0, 0, 0]), "r")
    assert wrapped.t.tolist() == [5, 7 + 8192] and wrapped.x.tolist() == [1, 2]


@pytest.mark.parametrize("in_memory", [True, False, "auto"])
@pytest.mark.parametrize("values", ["binary", "count"])
def test_nmnist_in_the_official_layout(nmnist_folder: Path, in_memory: Any, values: Any) -> None:
    bundle = load("nmnist", root=nmnist_folder, T=6, values=values, in_memory=in_memory)
    assert (bundle.kind, bundle.input_shape, bundle.mean) == ("event", (6, 2, 34, 34), None)
    assert (len(bundle.train), len(bundle.test)) == (12, 4)
    x, y = everything(bundle)
    assert x.shape == (6, 12, 2, 34, 34) and y.tolist() == [i % 3 for i in range(12)]  # the order of the index
    for i in range(12):
        file = nmnist_folder / f"N-MNIST/Train/{i % 3}/{i + 1:05d}.bin"
        expected = to_frames(nmnist.read_recording(file.read_bytes(), "r"), 6, (34, 34), values=values)
        assert torch.equal(x[:, i], expected) and torch.equal(bundle.train[i][0], expected)


def test_nmnist_folder_zip_and_cache_agree(
    nmnist_folder: Path, write_zip: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = load("nmnist", root=nmnist_folder)
    packed = write_zip(nmnist_folder / "N-MNIST", tmp_path / "nmnist.zip")
    zipped, lazy = load("nmnist", path=packed), load("nmnist", path=packed, in_memory=False)
    assert folder.fingerprint == zipped.fingerprint == lazy.fingerprint
    assert load("nmnist", path=packed, split_by="count").fingerprint != zipped.fingerprint
    monkeypatch.setattr(nmnist, "_binned", lambda *_: pytest.fail("binned again"))
    again = load("nmnist", path=packed)
    for other in (zipped, lazy, again):
        assert torch.equal(everything(other)[0], everything(folder)[0])


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("Train/0/00001.bin", b"", "0 bytes are not a whole number"),
        ("Train/0/00001.bin", b"1234567", "7 bytes are not a whole number"),
        ("Train/0/00001.bin", bytes([34, 0, 0, 0, 1]), "event 0 lies at x=34, y=0, off the 34 x 34"),
        ("Train/0/00001.bin", bytes([1, 1, 0, 0, 9, 1, 1, 0, 0, 8]), "event 1 at 8 µs comes after"),
        ("Train/0/00001.txt", b"hello", "is not a recording"),
        ("Train/12/00001.bin", b"hello", "is not a recording"),
    ],
)
def test_damaged_nmnist_is_named(nmnist_folder: Path, name: str, data: bytes, message: str) -> None:
    file = nmnist_folder / "N-MNIST" / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(data)
    with pytest.raises(DataError, match=f"{name}: .*{message}"):
        load("nmnist", root=nmnist_folder)


def test_nmnist_mistakes_are_explained(nmnist_folder: Path) -> None:
    for options in ({"T": 0}, {"split_by": "events"}, {"values": "sum"}, {"in_memory": "yes"}):
        with pytest.raises(ArgumentError, match=next(iter(options))):
            load("nmnist", root=nmnist_folder, **options)
    shutil.rmtree(nmnist_folder / "N-MNIST/Test")
    with pytest.raises(DataError, match="no recordings in Test"):
        load("nmnist", root=nmnist_folder)


def test_real_nmnist_follows_mnist(ranvier_data: Path) -> None:
    recordings: NDArray[Any] = load("nmnist", root=ranvier_data).train.labels.numpy()
    images = load("mnist", root=ranvier_data).train.labels.numpy()
    assert len(recordings) == 1000 and np.array_equal(recordings, images[:1000])
