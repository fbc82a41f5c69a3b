"""Spike recordings as batches `[T, B, channels]`: time in windows, neighbouring channels summed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ranvier.data.audio.spikes import SpikeRecordings
from ranvier.data.samples import Indices, Samples, as_index
from ranvier.errors import ArgumentError
from ranvier.ops.backend import use_kernels

BINNINGS = ("grid", "absolute", "event")


@dataclass(frozen=True)
class Binning:
    """How spikes become frames.

    Args:
        dt: width of a frame in milliseconds.
        channels: how many the `sensor` channels are summed to, in groups of neighbours; it divides `sensor`.
        binning: "grid" cuts time into equal frames from the first spike on, "absolute" from time 0 on. "event" opens a
            frame at the first spike not yet counted and closes it `dt` later, so that silences vanish; the numbers
            published for learned delays on SHD and SSC were made with it.
        values: "count", spikes a frame and channel (may exceed 1), or "binary".
        sensor: channels of the recordings.
    """

    dt: float = 10.0
    channels: int = 140
    binning: Literal["grid", "absolute", "event"] = "grid"
    values: Literal["count", "binary"] = "count"
    sensor: int = 700

    def __post_init__(self) -> None:
        width = self.dt * 1000 if isinstance(self.dt, int | float) and not isinstance(self.dt, bool) else 0
        if not 1 <= width < 1 << 31 or abs(width - round(width)) > 1e-6:
            raise ArgumentError(f"dt must be milliseconds, a multiple of 0.001, got {self.dt!r}")
        n = self.channels
        if not isinstance(n, int) or isinstance(n, bool) or n < 1 or self.sensor % n:
            raise ArgumentError(f"channels must divide {self.sensor} (such as 700, 350, 140, 70), got {n!r}")
        if self.binning not in BINNINGS:
            raise ArgumentError(f"binning must be one of {', '.join(BINNINGS)}; got {self.binning!r}")
        if self.values not in ("count", "binary"):
            raise ArgumentError(f"values must be 'count' or 'binary', got {self.values!r}")

    @property
    def width(self) -> int:
        """Of a frame, in microseconds."""
        return round(self.dt * 1000)

    def counts(self, recordings: SpikeRecordings, index: NDArray[np.int64], T: int) -> NDArray[np.float32]:
        """Frames `[T, B, channels]` of the recordings at `index`; what lies after frame T is cut off."""
        out = np.zeros((T, len(index), self.channels), np.float32)
        arguments = (self.width, BINNINGS.index(self.binning), self.sensor // self.channels, self.values == "binary")
        if use_kernels("cpu"):
            from ranvier.data.audio.numba_bins import bin_events

            bin_events(recordings.t, recordings.units, recordings.first, index, *arguments, out)
        else:
            for b, i in enumerate(index.tolist()):
                t, units = recordings[i]
                frame = frames_of(t, self)
                kept = frame < T
                np.add.at(out[:, b], (frame[kept], units[kept] // arguments[2]), 1)
            if arguments[3]:
                np.minimum(out, 1, out=out)
        return out


def frames_of(times: NDArray[np.int32], binning: Binning) -> NDArray[np.int64]:
    """The frame of every spike of a recording: the definition in NumPy."""
    t = times.astype(np.int64)
    if not len(t):
        return t
    if binning.binning != "event":
        return (t - (t[0] if binning.binning == "grid" else 0)) // binning.width
    frames, begin, frame = np.empty(len(t), np.int64), 0, 0
    while begin < len(t):
        end = int(np.searchsorted(t, t[begin] + binning.width, side="right"))
        frames[begin:end] = frame
        begin, frame = end, frame + 1
    return frames


def frame_counts(recordings: SpikeRecordings, binning: Binning) -> NDArray[np.int64]:
    """`[N]`: how many frames each recording has; 0 for an empty one."""
    out = np.empty(len(recordings), np.int64)
    if use_kernels("cpu"):
        from ranvier.data.audio.numba_bins import count_frames

        count_frames(recordings.t, recordings.first, binning.width, BINNINGS.index(binning.binning), out)
        return out
    for i in range(len(recordings)):
        t, _ = recordings[i]
        out[i] = frames_of(t, binning)[-1] + 1 if len(t) else 0
    return out


class SpikeSamples(Samples):
    """Spike recordings, binned when asked for: a sample is `[T, channels]`, a batch `[T, B, channels]`.

    A recording that is shorter than `T` frames ends in zeros, a longer one is cut.
    """

    def __init__(self, recordings: SpikeRecordings, binning: Binning, T: int, index: Any = None) -> None:
        self.recordings, self.binning, self.T = recordings, binning, T
        self.index = np.arange(len(recordings)) if index is None else np.asarray(index, np.int64)
        self.labels = torch.from_numpy(recordings.labels[self.index])
        self.time_first = True

    def events(self, index: int) -> tuple[NDArray[np.int32], NDArray[np.uint16]]:
        """`(t, units)` of a sample: microseconds and channels."""
        return self.recordings[int(self.index[index])]

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        index = as_index(indices, len(self))
        return torch.from_numpy(self.binning.counts(self.recordings, self.index[index.numpy()], self.T)), self.labels[
            index
        ]
