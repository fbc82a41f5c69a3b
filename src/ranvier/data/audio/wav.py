"""WAV files, read whole or not at all."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranvier.errors import DataError
from ranvier.extras import require


def read_wav(data: bytes, where: str) -> tuple[NDArray[np.float32], int]:
    """`(samples, rate)` of a mono WAV file: float32 in [−1, 1], samples a second.

    Raises `DataError` that names `where` for a file that is not WAV, has more than one channel, holds no samples, or
    ends before it says it does.
    """
    _check_whole(data, where)
    soundfile: Any = require("soundfile", extra="data")
    try:
        samples, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError, TypeError, ValueError) as error:
        raise DataError(f"{where}: cannot be decoded as WAV: {error}") from error
    if samples.shape[1] != 1:
        raise DataError(f"{where}: has {samples.shape[1]} channels, expected 1")
    if not len(samples):
        raise DataError(f"{where}: holds no samples")
    if not np.isfinite(samples).all():
        raise DataError(f"{where}: holds samples that are not finite")
    return samples[:, 0], int(rate)


def _check_whole(data: bytes, where: str) -> None:
    """Walk the chunks: the decoder itself takes a file that is cut off for a shorter one."""
    if len(data) < 12 or data[:4] not in (b"RIFF", b"RF64") or data[8:12] != b"WAVE":
        raise DataError(f"{where}: is not a WAV file ({len(data)} bytes, starting with {data[:12]!r})")
    at = 12
    while at + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, at)
        if name == b"data":
            if size != 0xFFFFFFFF and at + 8 + size > len(data):  # streams write −1, for "to the end"
                raise DataError(
                    f"{where}: is cut off: {size} bytes of samples declared, {len(data) - at - 8} are there"
                )
            return
        at += 8 + size + size % 2
    raise DataError(f"{where}: is a WAV file without samples, or cut off before them")
