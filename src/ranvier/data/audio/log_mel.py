"""Log-mel frames of a recording."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranvier.errors import ArgumentError
from ranvier.extras import require

FLOOR = 1e-10  # of the power: −100 dB


@dataclass(frozen=True)
class LogMel:
    """Power spectrum in mel bands, in decibels.

    Frames of `n_fft` samples (periodic Hann window) every `hop` samples, centred on them (the ends are reflected);
    `n_mels` triangles, equally spaced on the mel scale of HTK, 2595 log10(1 + f / 700), from `f_min` to `f_max`, not
    normalised; 10 log10(max(power, 1e-10)). A band between two bins of the transform, or above half the sampling rate,
    has no bins: it stays at −100 dB.
    """

    rate: int = 8000
    n_fft: int = 256
    hop: int = 80
    n_mels: int = 140
    f_min: float = 50.0
    f_max: float = 14000.0

    def __post_init__(self) -> None:
        for name in ("rate", "n_fft", "hop", "n_mels"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ArgumentError(f"{name} must be a positive integer, got {value!r}")
        if not 0 <= self.f_min < self.f_max < np.inf:
            raise ArgumentError(f"f_min must be below f_max, and not negative; got {self.f_min!r} and {self.f_max!r}")

    def bank(self) -> NDArray[np.float64]:
        """The triangles, `[n_fft / 2 + 1, n_mels]`."""
        bins = np.linspace(0, self.rate / 2, self.n_fft // 2 + 1)
        low, high = (2595 * np.log10(1 + f / 700) for f in (self.f_min, self.f_max))
        edges = 700 * (10 ** (np.linspace(low, high, self.n_mels + 2) / 2595) - 1)
        width = np.diff(edges)
        distance = edges[None] - bins[:, None]
        rising, falling = -distance[:, :-2] / width[:-1], distance[:, 2:] / width[1:]
        return np.maximum(0, np.minimum(rising, falling))

    def frames(self, samples: int) -> int:
        """How many frames `samples` samples at `rate` have."""
        return samples // self.hop + 1

    def __call__(self, sound: NDArray[np.floating]) -> NDArray[np.float32]:
        """`[B, samples]` at `rate` to decibels `[B, frames, n_mels]`."""
        half = self.n_fft // 2
        if sound.shape[1] <= half:
            raise ArgumentError(f"a recording must be longer than {half} samples, got {sound.shape[1]}")
        padded = np.pad(sound, ((0, 0), (half, half)), mode="reflect")
        windows = np.lib.stride_tricks.sliding_window_view(padded, self.n_fft, axis=1)[:, :: self.hop]
        window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self.n_fft) / self.n_fft)).astype(np.float32)
        fft: Any = require("scipy.fft", extra="data")
        spectrum = fft.rfft(windows * window, axis=-1)
        power = spectrum.real**2 + spectrum.imag**2
        return (10 * np.log10(np.maximum(power @ self.bank().astype(power.dtype), FLOOR))).astype(np.float32)


def fixed_length(sound: NDArray[np.float32], samples: int) -> NDArray[np.float32]:
    """`sound` cut to, or filled with zeros to, `samples`."""
    out = np.zeros(samples, np.float32)
    out[: min(samples, len(sound))] = sound[:samples]
    return out


def resampled(sound: NDArray[np.float32], rate: int, target: int) -> NDArray[np.float32]:
    """The last axis of `sound` from `rate` to `target` samples a second, band-limited."""
    if rate == target:
        return sound
    common = int(np.gcd(rate, target))
    signal: Any = require("scipy.signal", extra="data")
    return signal.resample_poly(sound, target // common, rate // common, axis=-1).astype(np.float32)
