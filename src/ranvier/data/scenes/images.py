"""Pictures with several digits on an uneven background: what is where is known to the pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranvier.data.scenes.glyphs import Glyphs

INK = 0.4  # of a stroke's full strength: from here on a pixel belongs to the digit
APART = 0.1  # intersection over the smaller box that two digits may have
_TRIES = 20


@dataclass(frozen=True)
class ImageScene:
    """A rendered picture.

    Attributes:
        image: uint8 `[1, size, size]`.
        classes: uint8 `[size, size]`, 0 for the background and 1 + digit on the strokes.
        boxes: float32 `[n, 4]`, x1, y1, x2, y2 in pixels around the strokes.
        labels: int64 `[n]`, the digits.
    """

    image: NDArray[np.uint8]
    classes: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]


def image_scene(
    digits: Glyphs, random: np.random.Generator, size: int, most: int, heights: tuple[int, int], noise: float
) -> ImageScene:
    """1 to `most` digits of `heights` pixels, light on a darker background of slow waves and pixel noise."""
    ys, xs = np.mgrid[:size, :size] / size
    waves = sum(
        np.sin(2 * np.pi * (a * xs + b * ys + c)) * w
        for a, b, c, w in zip(*random.uniform(-2, 2, (3, 3)), random.uniform(0, 0.08, 3), strict=True)
    )
    canvas = np.clip(random.uniform(0.05, 0.3) + waves, 0, 1).astype(np.float32)
    classes = np.zeros((size, size), np.uint8)
    boxes: list[tuple[int, int, int, int]] = []
    labels: list[int] = []
    for _ in range(int(random.integers(1, most + 1))):
        index = int(random.integers(len(digits.labels)))
        stroke = digits.draw(index, int(random.integers(heights[0], heights[1] + 1)))[:size, :size]
        place = _place(boxes, stroke.shape, size, random)
        if place is None:
            continue
        y, x = place
        h, w = stroke.shape
        strength = float(random.uniform(0.6, 1.0))
        spot = (slice(y, y + h), slice(x, x + w))
        canvas[spot] = canvas[spot] * (1 - stroke) + strength * stroke
        classes[spot][stroke > INK] = 1 + digits.labels[index]
        rows, columns = (np.flatnonzero((stroke > INK).any(axis)) for axis in (1, 0))
        if not len(rows):
            continue
        boxes.append((x + int(columns[0]), y + int(rows[0]), x + int(columns[-1]) + 1, y + int(rows[-1]) + 1))
        labels.append(int(digits.labels[index]))
    canvas += random.normal(0, noise, canvas.shape).astype(np.float32)
    image = np.rint(np.clip(canvas, 0, 1) * 255).astype(np.uint8)[None]
    return ImageScene(image, classes, np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int64))


def _place(
    boxes: list[tuple[int, int, int, int]], shape: tuple[int, ...], size: int, random: np.random.Generator
) -> tuple[int, int] | None:
    """A corner where the new digit hardly covers the others, or None."""
    h, w = shape
    for _ in range(_TRIES):
        y, x = int(random.integers(size - h + 1)), int(random.integers(size - w + 1))
        shared = (
            max(0, min(x + w, x2) - max(x, x1))
            * max(0, min(y + h, y2) - max(y, y1))
            / min(w * h, (x2 - x1) * (y2 - y1))
            for x1, y1, x2, y2 in boxes
        )
        if max(shared, default=0) <= APART:
            return y, x
    return None
