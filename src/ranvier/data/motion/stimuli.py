"""Movies of images that move as the labels say, and the events of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ranvier.data.motion.sensor import EventSensor
from ranvier.data.motion.window import follow, whiten
from ranvier.errors import ArgumentError, DataError

MARGIN = 5  # pixels at the edge of an image that no window sees


@dataclass(frozen=True, eq=False)
class Movie:
    """`events` int8 `[T, H, W]` in {−1, 0, 1}; `labels` int64 `[T]`; `corners` float64 `[T, 2]`, the window's."""

    events: NDArray[np.int8]
    labels: NDArray[np.int64]
    corners: NDArray[np.float64]


@dataclass(frozen=True)
class NaturalMotion:
    """Natural images seen through a window that moves in one of `directions` × `speeds` ways (Grimaldi and Perrinet,
    Biological Cybernetics 2023).

    Label l stands for the direction φ = 2π [(l mod D) + ½ (ring mod 2)] / D and the speed v = v0 · 2^(2 ring / S − 1)
    pixels a frame, with the ring ⌊l / D⌋ of S speeds: every other ring is turned by half a step. The content moves by
    v (cos φ, sin φ), down and right. In every frame the label is drawn anew with probability 1 / `block` (it may
    repeat); an infinite `block` gives one motion a movie.

    Args:
        directions, speeds, v0: of the labels.
        size, frames: of a movie; a frame is 1 ms.
        block: mean frames of one motion.
        sensor: makes the events.
        noise: standard deviation of the Gaussian noise on a movie that is scaled to [−1, 1].
    """

    directions: int = 12
    speeds: int = 3
    v0: float = 0.5
    size: int = 128
    frames: int = 200
    block: float = 24.0
    sensor: EventSensor = field(default_factory=EventSensor)
    noise: float = 0.001

    def __post_init__(self) -> None:
        for name, least in (("directions", 1), ("speeds", 1), ("size", 4), ("frames", 2)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ArgumentError(f"{name} must be an integer of at least {least}, got {value!r}")
        if not self.v0 > 0 or not math.isfinite(self.v0):
            raise ArgumentError(f"v0 must be pixels a frame, more than 0, got {self.v0!r}")
        if not self.block >= 1:
            raise ArgumentError(f"block must be at least one frame (or infinite), got {self.block!r}")
        if not 0 <= self.noise < math.inf:
            raise ArgumentError(f"noise must not be negative, got {self.noise!r}")

    @property
    def classes(self) -> int:
        """How many motions there are."""
        return self.directions * self.speeds

    def velocities(self) -> NDArray[np.float64]:
        """`[classes, 2]`: pixels a frame that the content moves down and right, by label."""
        label = np.arange(self.classes)
        ring = label // self.directions
        phi = 2 * np.pi * (label % self.directions + 0.5 * (ring % 2)) / self.directions
        speed = self.v0 * 2.0 ** (2 * ring / self.speeds - 1)
        return speed[:, None] * np.stack([np.cos(phi), np.sin(phi)], 1)

    def names(self) -> tuple[str, ...]:
        """What each label stands for: degrees and pixels a frame."""
        moves = self.velocities()
        angle = np.degrees(np.arctan2(moves[:, 1], moves[:, 0])) % 360
        speeds = np.hypot(moves[:, 0], moves[:, 1])
        return tuple(f"{a:.4g}° {v:.3f} px/ms" for a, v in zip(angle, speeds, strict=True))

    def labels(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """A label for every frame."""
        fresh = rng.integers(0, self.classes, self.frames)
        drawn = rng.random(self.frames) < (0.0 if math.isinf(self.block) else 1 / self.block)
        drawn[0] = True
        return fresh[np.maximum.accumulate(np.where(drawn, np.arange(self.frames), 0))]

    def movie(
        self, images: Sequence[NDArray[np.float64]], seed: int | Sequence[int], label: int | None = None
    ) -> Movie:
        """One movie of one of the whitened `images`; the seed decides image, motions, start and noise.

        With `label`, all of it moves as that label says.

        Raises `DataError` when an image is too small for the way that the window goes.
        """
        rng = np.random.Generator(np.random.Philox(np.random.SeedSequence(seed)))
        labels = self.labels(rng) if label is None else np.full(self.frames, label, np.int64)
        image = images[int(rng.integers(len(images)))]
        path = np.cumsum(-self.velocities()[labels], axis=0)
        low, high = path.min(0), path.max(0)
        room = np.array(image.shape) - self.size - 2 * MARGIN - (high - low)
        if (room < 0).any():
            raise DataError(
                f"an image of {image.shape[0]} x {image.shape[1]} pixels is too small for a window of {self.size} that "
                f"moves by {high[0] - low[0]:.0f} rows and {high[1] - low[1]:.0f} columns; use larger images, a "
                "smaller size, fewer frames or a lower v0"
            )
        corners = path - low + MARGIN + room * rng.random(2)
        frames = follow(image, corners, self.size)
        frames -= frames.mean()
        frames /= max(np.abs(frames).max(), 1e-12)
        frames = np.clip(frames + self.noise * rng.standard_normal(frames.shape), -1, 1)
        return Movie(self.sensor(frames), labels, corners)


def whitened(images: Sequence[NDArray[np.floating]]) -> list[NDArray[np.float64]]:
    """Every image whitened, and its rim, where whitening meets the other side of the image, cut off."""
    rim = 4
    return [whiten(image)[rim:-rim, rim:-rim] for image in images]
