"""Images of any size in one square: the longer side is resized, the rest is filled, and targets go along."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ranvier.data.archive import Archive
from ranvier.data.samples import Indices, as_index
from ranvier.data.targets import IGNORED, TargetSamples, table
from ranvier.errors import ArgumentError, DataError
from ranvier.extras import require

_MOST_PIXELS = 64_000_000


def check_size(size: Any) -> None:
    """Raise `ArgumentError` unless `size` is a sensible number of pixels."""
    if not isinstance(size, int) or isinstance(size, bool) or not 16 <= size <= 4096:
        raise ArgumentError(f"size must be an integer from 16 to 4096 pixels, got {size!r}")


def opened(archive: Archive, name: str) -> Any:
    """A decoded Pillow image of `archive`; `DataError` naming the file when it is not a whole image."""
    image_module: Any = require("PIL.Image", extra="data")
    try:
        image = image_module.open(io.BytesIO(archive.read(name)))
        if image.width * image.height > _MOST_PIXELS:
            raise DataError(f"{archive.where(name)}: has more than {_MOST_PIXELS} pixels")
        image.load()
    except DataError:
        raise
    except Exception as error:  # Pillow's readers raise many types, some of them undocumented, on damaged files
        raise DataError(f"{archive.where(name)}: is not a whole image: {error}") from error
    return image


def boxed_image(image: Any, size: int) -> tuple[NDArray[np.uint8], float]:
    """`[3, size, size]` with the image in the upper left corner, black elsewhere, and the scale that it got."""
    resample: Any = require("PIL.Image", extra="data").Resampling.BILINEAR
    scale = size / max(image.size)
    width, height = (max(1, round(n * scale)) for n in image.size)
    out = np.zeros((3, size, size), np.uint8)
    out[:, :height, :width] = np.asarray(image.convert("RGB").resize((width, height), resample)).transpose(2, 0, 1)
    return out, scale


def boxed_map(image: Any, size: int) -> NDArray[np.int64]:
    """The values of a grey or palette image `[size, size]` (nearest neighbour), −1 outside of it."""
    nearest: Any = require("PIL.Image", extra="data").Resampling.NEAREST
    scale = size / max(image.size)
    width, height = (max(1, round(n * scale)) for n in image.size)
    values = np.asarray(image.resize((width, height), nearest)).astype(np.int64)
    if values.ndim != 2:
        raise DataError(f"a map of classes must have one value a pixel, got an image of mode {image.mode}")
    out = np.full((size, size), IGNORED, np.int64)
    out[:height, :width] = values
    return out


class MapFiles(TargetSamples):
    """Images with maps of classes in files: pairs of names in `archive`; `classes` turns stored values into labels."""

    def __init__(
        self, archive: Archive, names: Sequence[tuple[str, str]], size: int,
        classes: Callable[[NDArray[np.int64]], NDArray[np.int64]], count: int,
    ) -> None:  # fmt: skip
        self.archive, self.names, self.size, self.classes, self.count = archive, list(names), size, classes, count
        self.labels, self.time_first = torch.zeros(len(names), dtype=torch.int64), False

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        images: list[NDArray[np.uint8]] = []
        maps: list[NDArray[np.int64]] = []
        for i in as_index(indices, len(self)).tolist():
            picture, annotation = self.names[i]
            shown, drawn = opened(self.archive, picture), opened(self.archive, annotation)
            if shown.size != drawn.size:
                raise DataError(
                    f"{self.archive.where(annotation)}: is {drawn.size[0]} x {drawn.size[1]} pixels, its image "
                    f"{shown.size[0]} x {shown.size[1]}"
                )
            images.append(boxed_image(shown, self.size)[0])
            stored = boxed_map(drawn, self.size)
            found = np.where(stored < 0, IGNORED, self.classes(stored))
            if found.max(initial=-1) >= self.count:
                raise DataError(
                    f"{self.archive.where(annotation)}: has a class outside the {self.count} of the data set"
                )
            maps.append(found)
        x = torch.from_numpy(np.stack(images)).to(torch.float32).div_(255)
        return x, torch.from_numpy(np.stack(maps))


class BoxFiles(TargetSamples):
    """Images in files with boxes `[n, 4]` (x1, y1, x2, y2 in pixels of the file), classes and levels of each."""

    def __init__(
        self, archive: Archive, names: Sequence[str], size: int, boxes: Sequence[NDArray[np.float32]],
        kinds: Sequence[NDArray[np.int64]], levels: Sequence[NDArray[np.int64]],
    ) -> None:  # fmt: skip
        self.archive, self.names, self.size = archive, list(names), size
        self.boxes, self.kinds, self.levels = list(boxes), list(kinds), list(levels)
        self.labels, self.time_first = torch.zeros(len(names), dtype=torch.int64), False

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        index = as_index(indices, len(self)).tolist()
        images: list[NDArray[np.uint8]] = []
        scaled: list[Tensor] = []
        for i in index:
            image, scale = boxed_image(opened(self.archive, self.names[i]), self.size)
            images.append(image)
            scaled.append(torch.from_numpy(self.boxes[i] * np.float32(scale)))
        x = torch.from_numpy(np.stack(images)).to(torch.float32).div_(255)
        kinds = [torch.from_numpy(self.kinds[i]) for i in index]
        return x, table(scaled, kinds, [torch.from_numpy(self.levels[i]) for i in index])


def image_statistics(samples: TargetSamples, count: int = 200) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of the channels over up to `count` images, the fillings included."""
    picked = np.linspace(0, len(samples) - 1, min(count, len(samples))).astype(int)
    total, square, pixels = torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64), 0
    for i in picked:
        x = samples[int(i)][0].double()
        total, square, pixels = total + x.sum((1, 2)), square + x.square().sum((1, 2)), pixels + x[0].numel()
    mean = total / pixels
    spread = (square / pixels - mean.square()).clamp_min(1e-8).sqrt()
    return tuple(mean.tolist()), tuple(spread.tolist())
