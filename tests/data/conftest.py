"""Small files in the official layouts of the data sets."""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has its own, empty cache."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("RANVIER_CACHE", str(folder))
    return folder


def idx_bytes(array: NDArray[np.uint8]) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


@pytest.fixture
def mnist_folder(tmp_path: Path) -> Path:
    """A data folder with an MNIST of 30 + 20 images; the images are gzip'd, the labels are not."""
    folder = tmp_path / "data/MNIST/raw"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for stem, n in (("train", 30), ("t10k", 20)):
        images = rng.integers(0, 256, (n, 28, 28), np.uint8)
        (folder / f"{stem}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(images)))
        (folder / f"{stem}-labels-idx1-ubyte").write_bytes(idx_bytes((np.arange(n) % 10).astype(np.uint8)))
    return tmp_path / "data"


@pytest.fixture
def make_images(tmp_path: Path) -> Callable[..., Path]:
    """Writes `train/<class>/<i>.png` and `test/...`; the pixels tell the split, class and number."""

    def make(
        name: str = "pictures", classes: tuple[str, ...] = ("cat", "dog"), size: tuple[int, int] = (6, 4),
        splits: tuple[str, ...] = ("train", "test"), each: int = 3, extension: str = "png",
    ) -> Path:  # fmt: skip
        for s, split in enumerate(splits):
            for c, label in enumerate(classes):
                folder = tmp_path / name / split / label
                folder.mkdir(parents=True)
                for i in range(each):
                    pixels = np.zeros((size[1], size[0], 3), np.uint8)
                    pixels[...] = (100 * s, 10 * c, i)
                    Image.fromarray(pixels).save(folder / f"{i}.{extension}")
        return tmp_path / name

    return make


def zip_folder(folder: Path, target: Path, top: str = "") -> Path:
    with zipfile.ZipFile(target, "w") as out:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                out.write(file, top + file.relative_to(folder).as_posix())
    return target


def recording_bytes(t: list[int], x: list[int], y: list[int], p: list[int]) -> bytes:
    """Events in the 5-byte format of N-MNIST, written bit by bit from its description."""
    out = bytearray()
    for ti, xi, yi, pi in zip(t, x, y, p, strict=True):
        out += bytes([xi, yi]) + ((pi << 23) | ti).to_bytes(3, "big")
    return bytes(out)


@pytest.fixture
def nmnist_folder(tmp_path: Path) -> Path:
    """A data folder with an N-MNIST of 12 + 4 recordings."""
    rng = np.random.default_rng(1)
    for split, n in (("Train", 12), ("Test", 4)):
        for i in range(n):
            folder = tmp_path / f"data/N-MNIST/{split}/{i % 3}"
            folder.mkdir(parents=True, exist_ok=True)
            count = int(rng.integers(20, 60))
            t = np.sort(rng.integers(0, 300_000, count)).tolist()
            x, y = (rng.integers(0, 34, count).tolist() for _ in range(2))
            p = rng.integers(0, 2, count).tolist()
            (folder / f"{i + 1:05d}.bin").write_bytes(recording_bytes(t, x, y, p))
    return tmp_path / "data"


@pytest.fixture
def write_recording() -> Callable[..., bytes]:
    return recording_bytes


@pytest.fixture
def write_zip() -> Callable[..., Path]:
    return zip_folder


@pytest.fixture
def write_idx() -> Callable[[NDArray[np.uint8]], bytes]:
    return idx_bytes
