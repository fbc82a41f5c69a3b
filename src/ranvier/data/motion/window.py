"""Images for a moving window: whitened, and shifted by any fraction of a pixel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ranvier.errors import ShapeError

CUTOFF = 0.4  # cycles a pixel


def whiten(image: NDArray[np.floating], cutoff: float = CUTOFF) -> NDArray[np.float64]:
    """`image` with its amplitudes times f exp(−(f / cutoff)⁴), f in cycles a pixel; mean 0, largest value 1.

    A spectrum that falls as 1 / f becomes flat up to the cutoff.
    """
    image = np.asarray(image, np.float64)
    if image.ndim != 2 or min(image.shape) < 2:
        raise ShapeError(f"an image to whiten must be [rows, columns], got shape {image.shape}")
    f = np.hypot(*np.meshgrid(np.fft.fftfreq(image.shape[0]), np.fft.rfftfreq(image.shape[1]), indexing="ij"))
    white = np.fft.irfft2(np.fft.rfft2(image) * f * np.exp(-((f / cutoff) ** 4)), image.shape)
    peak = np.abs(white).max()
    return white / peak if peak > 0 else white


def shift(image: NDArray[np.floating], rows: float, columns: float) -> NDArray[np.float64]:
    """`image` moved down by `rows` and right by `columns` (any real numbers), periodic, without loss: by its phase.

    The highest frequency of an even side keeps only what a real image can.
    """
    spectrum = np.fft.rfft2(image)
    phase = np.exp(-2j * np.pi * rows * np.fft.fftfreq(image.shape[0]))[:, None]
    phase = phase * np.exp(-2j * np.pi * columns * np.fft.rfftfreq(image.shape[1]))
    return np.fft.irfft2(spectrum * phase, image.shape)


def follow(
    image: NDArray[np.float64], corners: NDArray[np.float64], size: int, pad: int = 16
) -> NDArray[np.float64]:  # fmt: skip
    """What a window of `size` pixels sees whose top left corner is at `corners` `[T, 2]`: `[T, size, size]`.

    Each frame is a piece of the image, `pad` pixels wider on every side and fading out there, shifted by the fraction;
    the image is continued by reflection where the padding leaves it.
    """
    ramp = 0.5 - 0.5 * np.cos(np.pi * (np.arange(pad // 2) + 0.5) / (pad // 2))
    taper = np.concatenate([ramp, np.ones(size + 2 * (pad - pad // 2)), ramp[::-1]])
    wide = np.pad(image, pad, mode="reflect")
    whole = np.floor(corners).astype(np.int64)
    part = corners - whole
    side = size + 2 * pad
    frames = np.empty((len(corners), size, size))
    f = -2j * np.pi * np.fft.fftfreq(side), -2j * np.pi * np.fft.rfftfreq(side)
    for t, (row, column) in enumerate(whole):
        piece = wide[row : row + side, column : column + side] * taper[:, None] * taper
        phase = np.exp(-part[t, 0] * f[0])[:, None] * np.exp(-part[t, 1] * f[1])  # the window moves, the image does not
        frames[t] = np.fft.irfft2(np.fft.rfft2(piece) * phase, (side, side))[pad : pad + size, pad : pad + size]
    return frames
