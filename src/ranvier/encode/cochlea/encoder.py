"""A recording to the spike trains of a model ear."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from ranvier.encode.cochlea.membrane import BasilarMembrane
from ranvier.encode.cochlea.nerve import BushyCell, HairCell
from ranvier.errors import ArgumentError, DataError
from ranvier.extras import require

BLOCK = 16384  # samples of one transform
TAPS = 4096  # of the filters: 171 ms at 24 kHz, and all but 1e-5 of the energy at the apex
_EARLY = 256  # taps before the wave arrives: it is not band-limited


@dataclass(frozen=True, eq=False)
class SpikeTrain:
    """Spikes in the order of time: at `times` (float64 seconds, from the start of the recording), in channel `units`.

    `duration` in seconds; `channels` is how many there are, silent ones included.
    """

    times: NDArray[np.float64]
    units: NDArray[np.uint16]
    channels: int
    duration: float

    def __len__(self) -> int:
        return len(self.times)


@dataclass(frozen=True)
class Cochlea:
    """Audio to the spikes of `channels` bushy cells along the basilar membrane, high frequencies first.

    The pipeline of the Heidelberg data sets (Cramer et al., IEEE TNNLS 2022, and their published programme): equal
    loudness, `BasilarMembrane`, `HairCell`, `BushyCell`. Call it with a recording and its sampling rate.

    Args:
        channels: how many, 1 to 65,535.
        rate: samples a second of the model itself; 24,000 is the published one for recordings at 48 kHz. Any recording
            is resampled to it, so that nothing is aliased.
        level: root mean square that the recording is scaled to; None leaves it.
        ramp: seconds over which the ends are faded (Hann); None fades over the two halves, as the published programme.
        membrane, hair_cell, bushy_cell: the three stages.

    The same `seed` gives the same spikes, channel by channel, whatever the number of threads; a channel's random
    numbers do not depend on how many channels come after it.
    """

    channels: int = 700
    rate: int = 24000
    level: float | None = 0.3
    ramp: float | None = 0.03
    membrane: BasilarMembrane = field(default_factory=BasilarMembrane)
    hair_cell: HairCell = field(default_factory=HairCell)
    bushy_cell: BushyCell = field(default_factory=BushyCell)

    def __post_init__(self) -> None:
        for name, low, high in (("channels", 1, 65_535), ("rate", 8000, 400_000)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
                raise ArgumentError(f"{name} must be an integer from {low} to {high}, got {value!r}")
        if self.level is not None and not 0 < self.level < np.inf:
            raise ArgumentError(f"level must be a positive number or None, got {self.level!r}")
        if self.ramp is not None and not 0 <= self.ramp < np.inf:
            raise ArgumentError(f"ramp must be seconds or None, got {self.ramp!r}")

    def __call__(self, audio: ArrayLike | torch.Tensor, rate: int, seed: int = 0) -> SpikeTrain:
        """The spikes for `audio` `[samples]` at `rate` samples a second. Memory does not grow with its length.

        Raises `DataError` for audio that is empty, silent or not finite, `ArgumentError` for one that is not mono.
        """
        from ranvier.encode.cochlea.numba_nerve import run, seed_streams

        if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 1 << 64:
            raise ArgumentError(f"seed must be an integer from 0 to 2**64 − 1, got {seed!r}")
        sound = self.prepare(audio, rate)
        n, cell, bushy = self.channels, self.hair_cell, self.bushy_cell
        hair = np.empty((4, n), np.float32)
        for row, value in enumerate(cell.rest()):
            hair[row] = value
        pause = bushy.refractory_samples(self.rate)
        state = (
            hair, np.zeros((2, n)), np.zeros(n, np.int64), np.zeros((pause, n), np.uint8),
            np.full(n, bushy.fibres, np.int64), np.empty(n, np.uint64),
        )  # fmt: skip
        seed_streams(np.uint64(seed), state[-1])
        steps = cell.steps(self.rate).astype(np.float32), bushy.steps(self.rate)
        parts: list[tuple[NDArray[np.int64], NDArray[np.uint16]]] = []
        first = 0
        for velocity in self._blocks(sound):
            room = (len(velocity) // pause + 2) * n  # a cell that has fired is silent for `pause` samples
            out = np.empty(room, np.int64), np.empty(room, np.uint16)
            found = int(run(velocity, first, *steps, pause, bushy.fibres, *state, *out))
            parts.append((out[0][:found].copy(), out[1][:found].copy()))
            first += len(velocity)
        times = np.concatenate([t for t, _ in parts]) / self.rate
        return SpikeTrain(times, np.concatenate([u for _, u in parts]), n, first / self.rate)

    def prepare(self, audio: ArrayLike | torch.Tensor, rate: int) -> NDArray[np.float64]:
        """The sound at the ear: resampled, faded and of the wanted level."""
        sound = np.asarray(audio.detach().cpu() if isinstance(audio, torch.Tensor) else audio)
        if sound.ndim != 1 or sound.dtype.kind not in "fiu":
            raise ArgumentError(f"audio must be real numbers [samples] of one channel, got {sound.dtype} {sound.shape}")
        if not isinstance(rate, int | np.integer) or isinstance(rate, bool) or rate < 1:
            raise ArgumentError(f"rate must be samples a second, got {rate!r}")
        if not len(sound):
            raise DataError("the recording is empty")
        sound = sound.astype(np.float64)
        if not np.isfinite(sound).all():
            raise DataError(f"the recording has values that are not finite, the first at {_first_bad(sound)}")
        rms = float(np.sqrt(np.mean(sound * sound)))
        if rms == 0:
            raise DataError(f"the recording of {len(sound)} samples is silent")
        if rate != self.rate:
            common = int(np.gcd(int(rate), self.rate))
            sound = require("scipy.signal", extra="data").resample_poly(sound, self.rate // common, rate // common)
        fade = len(sound) // 2 if self.ramp is None else min(round(self.ramp * self.rate), len(sound) // 2)
        if fade:
            window = np.hanning(2 * fade)[:fade]
            sound = sound * (self.level / rms if self.level else 1.0)
            sound[:fade] *= window
            sound[-fade:] *= window[::-1]
            return sound
        return sound * (self.level / rms if self.level else 1.0)

    def velocity(self, audio: ArrayLike | torch.Tensor, rate: int) -> NDArray[np.float32]:
        """What the membrane does, `[samples, channels]` at the rate of the model."""
        return np.concatenate(list(self._blocks(self.prepare(audio, rate))))

    def _blocks(self, sound: NDArray[np.float64]) -> Iterator[NDArray[np.float32]]:
        """The velocity, in pieces of at most BLOCK − TAPS + 1 samples (overlap and save)."""
        fft = require("scipy.fft", extra="data")
        late = self.membrane.phase == "published"
        bank = _filter_bank(self.membrane, self.channels, self.rate)
        before = TAPS - _EARLY if late else _EARLY
        hop = BLOCK - TAPS + 1
        padded = np.concatenate([np.zeros(TAPS - 1 - before), sound, np.zeros(BLOCK)]).astype(np.float32)
        for start in range(0, len(sound), hop):
            spectrum = fft.rfft(padded[start : start + BLOCK])
            here = min(hop, len(sound) - start)
            out = np.empty((here, self.channels), np.float32)
            for c in range(0, self.channels, 16):  # a group stays in the cache
                wave = fft.irfft(bank[c : c + 16] * spectrum, BLOCK, axis=1, overwrite_x=True)
                out[:, c : c + 16] = wave[:, TAPS - 1 : TAPS - 1 + here].T
            yield out


@lru_cache(maxsize=2)
def _filter_bank(membrane: BasilarMembrane, channels: int, rate: int) -> NDArray[np.complex64]:
    """Spectra of the filters, cut to TAPS and padded to BLOCK; tap 0 is `_EARLY` (or all but that) before the sound."""
    fft: Any = require("scipy.fft", extra="data")
    early = TAPS - _EARLY if membrane.phase == "published" else _EARLY
    bank = np.empty((channels, BLOCK // 2 + 1), np.complex64)
    filters = membrane.filters(channels, rate, TAPS)
    for c in range(0, channels, 32):
        taps = np.roll(fft.irfft(filters[c : c + 32], TAPS, axis=1), early, axis=1)
        bank[c : c + 32] = fft.rfft(taps, BLOCK, axis=1)
    return bank


def _first_bad(sound: NDArray[np.float64]) -> str:
    i = int((~np.isfinite(sound)).argmax())
    return f"sample {i}: {sound[i]}"
