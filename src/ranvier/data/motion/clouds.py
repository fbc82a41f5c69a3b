"""Motion clouds: random textures that drift, with a known spectrum."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranvier.errors import ArgumentError


@dataclass(frozen=True)
class MotionClouds:
    """Textures of random phase that drift (Sanz-Leon, Vanzetta, Masson and Perrinet, J. Neurophysiol. 2012).

    The amplitude at the frequency (f_rows, f_columns, f_t), in cycles a pixel and a frame, is a product of a log-normal
    in the spatial frequency f, von Mises' in its orientation, and a Gaussian around the plane of the motion,
    exp(−½ ((v · f + f_t) / (`speed_bandwidth` f))²).

    Args:
        size, frames: of a movie; it repeats in space and time.
        frequency, bandwidth: mean spatial frequency and its spread, cycles a pixel.
        orientation: radians of the frequency, that is, across the stripes; None: along the motion, so that it can be
            seen whole (any other shows only the part of the motion across the stripes).
        orientation_bandwidth: radians.
        speed_bandwidth: relative to the spatial frequency, in pixels a frame; how incoherent the motion is.
        contrast: of tanh(contrast · z) for the texture z of standard deviation 1.
    """

    size: int = 64
    frames: int = 64
    frequency: float = 0.15
    bandwidth: float = 0.15
    orientation: float | None = None
    orientation_bandwidth: float = math.radians(15)
    speed_bandwidth: float = 0.05
    contrast: float = 1.0

    def __post_init__(self) -> None:
        for name in ("size", "frames"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 2:
                raise ArgumentError(f"{name} must be an integer of at least 2, got {value!r}")
        for name in ("frequency", "bandwidth", "orientation_bandwidth", "speed_bandwidth", "contrast"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 < value < math.inf:
                raise ArgumentError(f"{name} must be a positive number, got {value!r}")

    def amplitude(self, velocity: tuple[float, float]) -> NDArray[np.float64]:
        """Of every frequency, `[frames, size, size / 2 + 1]`, for `velocity` in pixels a frame, down and right."""
        rows, columns = np.fft.fftfreq(self.size)[:, None], np.fft.rfftfreq(self.size)
        time = np.fft.fftfreq(self.frames)[:, None, None]
        f = np.hypot(rows, columns)
        safe = np.where(f > 0, f, 1.0)
        spread = math.log(1 + self.bandwidth / self.frequency)
        radial = np.exp(-0.5 * (np.log(safe / self.frequency) / spread) ** 2) / safe
        across = math.atan2(velocity[1], velocity[0]) if self.orientation is None else self.orientation
        turned = np.cos(2 * (np.arctan2(columns, rows) - across)) - 1
        oriented = np.exp(turned / (4 * self.orientation_bandwidth**2))
        # Frequencies in time wrap around: a fast texture is sampled, not cut off.
        off = (velocity[0] * rows + velocity[1] * columns + time + 0.5) % 1 - 0.5
        coherent = np.exp(-0.5 * (off / (self.speed_bandwidth * safe)) ** 2)
        return np.where(f > 0, radial * oriented, 0.0) * coherent

    def movie(self, velocity: tuple[float, float], seed: int = 0) -> NDArray[np.float64]:
        """`[frames, size, size]` in [−1, 1]."""
        if len(velocity) != 2 or not all(math.isfinite(v) for v in velocity):
            raise ArgumentError(f"velocity must be pixels a frame (down, right), got {velocity!r}")
        rng = np.random.Generator(np.random.Philox(seed))
        noise = np.fft.rfftn(rng.standard_normal((self.frames, self.size, self.size)))
        z = np.fft.irfftn(noise * self.amplitude(velocity), (self.frames, self.size, self.size), axes=(0, 1, 2))
        return np.tanh(self.contrast * z / max(float(z.std()), 1e-12))
