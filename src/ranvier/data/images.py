"""Image files to arrays."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ranvier.data.archive import Archive
from ranvier.data.samples import Indices, Samples, as_index
from ranvier.errors import DataError
from ranvier.extras import require

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
_MOST_PIXELS = 64_000_000
_WORTH_A_THREAD = 16_384  # bytes of a file
_CHUNK = 4
_MODES = {1: "L", 3: "RGB"}


def decode(data: bytes, where: str, channels: int = 3, size: int | None = None) -> NDArray[np.uint8]:
    """The image in `data` as `[C, H, W]`; `where` names it in the `DataError` for anything that is not a whole image.

    With `size`, the shorter side is resized to it (bicubic, antialiased) and the centre square is cut out.
    """
    image_module: Any = require("PIL.Image", extra="data")
    try:
        with image_module.open(io.BytesIO(data)) as image:
            if image.width * image.height > _MOST_PIXELS:
                raise DataError(f"{where}: {image.width} x {image.height} pixels are more than {_MOST_PIXELS}")
            pixels = image.convert(_MODES[channels])
    except DataError:
        raise
    except Exception as error:  # Pillow's readers raise many types, some of them undocumented, on damaged files
        raise DataError(f"{where}: is not a whole image: {error}") from error
    if size is not None and pixels.size != (size, size):
        pixels = _square(pixels, size, image_module.Resampling.BICUBIC)
    array = np.asarray(pixels, np.uint8)
    return array[None] if channels == 1 else np.ascontiguousarray(array.transpose(2, 0, 1))


def _square(image: Any, size: int, method: Any) -> Any:
    scale = size / min(image.size)
    width, height = (max(size, round(n * scale)) for n in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    return image.resize((width, height), method).crop((left, top, left + size, top + size))


def decode_members(archive: Archive, names: Sequence[str], channels: int, size: int | None) -> NDArray[np.uint8]:
    """The images `names` of `archive` as `[N, C, H, W]`, decoded in threads. They must have one size."""
    first = decode(archive.read(names[0]), archive.where(names[0]), channels, size)
    out = np.empty((len(names), *first.shape), np.uint8)

    def fill(start: int) -> None:
        for i in range(start, min(start + _CHUNK, len(names))):
            image = decode(archive.read(names[i]), archive.where(names[i]), channels, size)
            if image.shape != first.shape:
                raise DataError(
                    f"{archive.where(names[i])}: is {_extent(image)} but {names[0]} is {_extent(first)}; pass size=... "
                    "to resize them all"
                )
            out[i] = image

    # Small files are quicker in one thread: decoding them is mostly Python, where threads only wait for each other.
    small = sum(archive.members[name].size for name in names) < _WORTH_A_THREAD * len(names)
    if small or len(names) < 4:
        for start in range(0, len(names), _CHUNK):
            fill(start)
        return out
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        futures = [pool.submit(fill, start) for start in range(0, len(names), _CHUNK)]
        try:
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return out


def _extent(image: NDArray[np.uint8]) -> str:
    return f"{image.shape[2]} x {image.shape[1]} pixels"


class ImageFileSamples(Samples):
    """Images that stay in their files and are decoded when asked for: for sets that do not fit into memory."""

    def __init__(self, archive: Archive, names: Sequence[str], labels: Tensor, channels: int, size: int | None) -> None:
        self.archive = archive
        self.names = list(names)
        self.labels = labels.to(torch.int64)
        self.channels = channels
        self.size = size
        self.time_first = False

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        index = as_index(indices, len(self))
        names = [self.names[i] for i in index.tolist()]
        images = torch.from_numpy(decode_members(self.archive, names, self.channels, self.size))
        return images.to(torch.float32).div_(255), self.labels[index]
