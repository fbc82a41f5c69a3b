"""Real photographs: those inside scikit-image and scikit-learn, or any folder of images."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ranvier.data.images import EXTENSIONS, decode
from ranvier.errors import DataError, MissingExtraError

# What each part shows is different, not only how it moves. Drawings, text and microscopy are left out.
PARTS: dict[str, tuple[str, ...]] = {
    "train": (
        "skimage/astronaut.png", "skimage/brick.png", "skimage/coins.png", "skimage/grass.png",
        "skimage/hubble_deep_field.jpg", "skimage/moon.png", "skimage/motorcycle_left.png", "skimage/retina.jpg",
        "sklearn/china.jpg",
    ),
    "validation": ("skimage/chelsea.png", "skimage/rocket.jpg"),
    "test": ("skimage/camera.png", "skimage/coffee.png", "skimage/gravel.png", "sklearn/flower.jpg"),
}  # fmt: skip
_FOLDERS = {"skimage": "data", "sklearn": "datasets/images"}
_PACKAGES = {"skimage": "scikit-image", "sklearn": "scikit-learn"}


def photographs(part: str) -> dict[str, NDArray[np.float64]]:
    """Grey photographs `[rows, columns]` in [0, 1] by name, of the part "train", "validation" or "test".

    They are 15 in all and lie inside the packages: nothing is fetched.
    """
    found: dict[str, NDArray[np.float64]] = {}
    for name in PARTS[part]:
        package, _, file = name.partition("/")
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            raise MissingExtraError(
                f"the photographs need the package {_PACKAGES[package]!r}; install it with: pip install 'ranvier[data]'"
            )
        found[name] = _grey(Path(spec.origin).parent / _FOLDERS[package] / file)
    return found


def read_images(folder: Path) -> dict[str, dict[str, NDArray[np.float64]]]:
    """The images of a folder by part and name: sorted by name, of every five the fourth validates and the fifth tests.

    Raises `DataError` when there are fewer than five, or one cannot be decoded.
    """
    if not folder.is_dir():
        raise DataError(f"images: {folder} is not a folder")
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in EXTENSIONS and p.is_file())
    if len(files) < 5:
        raise DataError(f"images: {folder} has {len(files)} images; at least 5 are needed, to train and test on others")
    parts: dict[str, dict[str, NDArray[np.float64]]] = {"train": {}, "validation": {}, "test": {}}
    for i, file in enumerate(files):
        part = {3: "validation", 4: "test"}.get(i % 5, "train")
        parts[part][file.relative_to(folder).as_posix()] = _grey(file)
    return parts


def _grey(path: Path) -> NDArray[np.float64]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    return decode(data, str(path), 1)[0] / 255.0
