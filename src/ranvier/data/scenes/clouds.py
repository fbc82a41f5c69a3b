"""Rooms of points: handwritten digits that stand upright on an uneven floor, seen by a noisy scanner."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranvier.data.scenes.glyphs import Glyphs

WIDTH, HEIGHT, DEPTH = 1.0, 1.4, 0.4  # metres of a standing digit: along its face, up, and through it
_TRIES = 20


@dataclass(frozen=True)
class CloudScene:
    """A scanned room.

    Attributes:
        points: float32 `[N, 4]`: x, y, z in metres (z up, the floor near 0) and reflectance 0 .. 1.
        classes: int64 `[N]`, 0 for the floor and 1 + digit.
        boxes: float32 `[n, 7]`: centre, sizes along the face, through it and up, heading.
        labels: int64 `[n]`, the digits.
    """

    points: NDArray[np.float32]
    classes: NDArray[np.int64]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]


def cloud_scene(
    digits: Glyphs, random: np.random.Generator, points: int, most: int, side: float, noise: float
) -> CloudScene:
    """1 to `most` digits in a square of `side` metres, turned by any heading; a third of the points is floor."""
    floor = points // 3
    where = random.uniform(0, side, (floor, 2))
    height = 0.05 * np.sin(where[:, 0]) * np.cos(where[:, 1])
    parts = [np.column_stack([where, height, random.uniform(0, 0.4, floor)])]
    classes = [np.zeros(floor, np.int64)]
    boxes: list[list[float]] = []
    labels: list[int] = []
    centres: list[NDArray[np.float64]] = []
    for _ in range(int(random.integers(1, most + 1))):
        centre = _place(centres, side, random)
        if centre is not None:
            centres.append(centre)
    shares = np.diff(np.linspace(0, points - floor, len(centres) + 1).astype(int))
    for centre, count in zip(centres, shares, strict=True):
        index = int(random.integers(len(digits.labels)))
        turn = float(random.uniform(-math.pi, math.pi))
        local, extent = _solid(digits.images[index], int(count), random)
        cos, sin = math.cos(turn), math.sin(turn)
        x, y = local[:, 0] * cos - local[:, 1] * sin, local[:, 0] * sin + local[:, 1] * cos
        bright = 0.5 + 0.5 * random.random(int(count))
        parts.append(np.column_stack([x + centre[0], y + centre[1], local[:, 2], bright]))
        classes.append(np.full(int(count), 1 + digits.labels[index]))
        boxes.append([*centre, extent[2] / 2, *extent, turn])
        labels.append(int(digits.labels[index]))
    cloud = np.concatenate(parts)
    cloud[:, :3] += random.normal(0, noise, (len(cloud), 3))
    order = random.permutation(len(cloud))
    return CloudScene(
        cloud[order].astype(np.float32), np.concatenate(classes)[order].astype(np.int64),
        np.array(boxes, np.float32).reshape(-1, 7), np.array(labels, np.int64),
    )  # fmt: skip


def _solid(
    image: NDArray[np.float32], count: int, random: np.random.Generator
) -> tuple[NDArray[np.float64], tuple[float, float, float]]:
    """`count` points on the strokes of a digit that stands on its feet, and its sizes."""
    ys, xs = np.nonzero(image > 0.4)
    chosen = random.integers(len(ys), size=count)
    top, bottom, left, right = ys.min(), ys.max() + 1, xs.min(), xs.max() + 1
    scale = HEIGHT / (bottom - top)
    across = (xs[chosen] + random.random(count) - (left + right) / 2) * scale
    up = (bottom - ys[chosen] - random.random(count)) * scale
    through = random.uniform(-0.5, 0.5, count) * DEPTH
    return np.column_stack([across, through, up]), (max(0.2, (right - left) * scale), DEPTH, HEIGHT)


def _place(centres: list[NDArray[np.float64]], side: float, random: np.random.Generator) -> NDArray[np.float64] | None:
    for _ in range(_TRIES):
        centre = random.uniform(WIDTH, side - WIDTH, 2)
        if all(np.linalg.norm(centre - other) > 1.6 * HEIGHT for other in centres):
            return centre
    return None
