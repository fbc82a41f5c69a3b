"""Mean and standard deviation of images, exactly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def channel_statistics(images: NDArray[np.uint8], scale: float = 255.0) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """`(mean, std)` over all pixels of `images` `[N, C, H, W]`, a value each channel, of `images / scale`.

    Integer sums, so that the numbers do not depend on the order. A constant channel gets a std of 1.
    """
    count = images.shape[0] * images.shape[2] * images.shape[3]
    total = np.zeros(images.shape[1], np.int64)
    squares = np.zeros(images.shape[1], np.int64)
    for start in range(0, len(images), 512):  # small enough to stay in the cache
        part = images[start : start + 512].astype(np.int32)
        total += part.sum((0, 2, 3), dtype=np.int64)
        squares += np.multiply(part, part, out=part).sum((0, 2, 3), dtype=np.int64)
    mean = [int(s) / count for s in total]
    variance = [(int(q) * count - int(s) ** 2) / count**2 for q, s in zip(squares, total, strict=True)]
    std = [v**0.5 / scale if v > 0 else 1.0 for v in variance]
    return tuple(m / scale for m in mean), tuple(std)
