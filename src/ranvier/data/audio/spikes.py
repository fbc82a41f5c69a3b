"""Many recordings of spikes, one after the other in two flat arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ranvier.errors import ArgumentError, DataError

LATEST = (1 << 31) - 1  # microseconds, 35 minutes


@dataclass(frozen=True, eq=False)
class SpikeRecordings:
    """Recordings of which spike when.

    Attributes:
        t: int32 microseconds, not negative, never decreasing within a recording.
        units: uint16, which channel fired.
        first: int64 `[N + 1]`: recording i is `t[first[i] : first[i + 1]]`.
        labels: int64 `[N]`.
        speakers: the name of the speaker of each recording, or empty.
        keys: the name of every label, or empty.
    """

    t: NDArray[np.int32]
    units: NDArray[np.uint16]
    first: NDArray[np.int64]
    labels: NDArray[np.int64]
    speakers: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[NDArray[np.int32], NDArray[np.uint16]]:
        """`(t, units)` of one recording."""
        part = slice(int(self.first[index]), int(self.first[index + 1]))
        return self.t[part], self.units[part]

    def take(self, index: NDArray[np.integer]) -> SpikeRecordings:
        """The recordings at `index`, in that order."""
        lengths = np.diff(self.first)[index]
        first = np.concatenate([[0], np.cumsum(lengths)])
        parts = [self[int(i)] for i in index]
        return SpikeRecordings(
            np.concatenate([self.t[:0], *(t for t, _ in parts)]),
            np.concatenate([self.units[:0], *(u for _, u in parts)]),
            first.astype(np.int64), self.labels[index],
            tuple(self.speakers[int(i)] for i in index) if self.speakers else (), self.keys,
        )  # fmt: skip

    @classmethod
    def join(cls, parts: Sequence[SpikeRecordings]) -> SpikeRecordings:
        """Several sets as one, in that order."""
        offsets = np.cumsum([0, *(len(p.t) for p in parts)])
        first = [p.first[:-1] + o for p, o in zip(parts, offsets, strict=False)]
        return cls(
            np.concatenate([p.t for p in parts]), np.concatenate([p.units for p in parts]),
            np.concatenate([*first, offsets[-1:]]), np.concatenate([p.labels for p in parts]),
            tuple(s for p in parts for s in p.speakers), parts[0].keys,
        )  # fmt: skip


def microseconds(times: ArrayLike, units: ArrayLike, channels: int, where: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """One recording, checked: `times` in seconds to int32 microseconds, `units` to uint16.

    Raises `DataError` naming `where` and the first event that is negative, not finite, out of the order of time, too
    late, or of a unit outside `0 .. channels − 1`.
    """
    t, u = np.asarray(times), np.asarray(units)
    if t.ndim != 1 or t.shape != u.shape:
        raise DataError(f"{where}: {t.size} times but {u.size} units; every spike needs one of each")
    if t.size and (t.dtype.kind not in "fiu" or u.dtype.kind not in "iu"):
        raise DataError(f"{where}: times must be numbers and units integers, got {t.dtype} and {u.dtype}")
    seconds = t.astype(np.float64)  # float16, in the official files, has too few digits to be scaled
    with np.errstate(invalid="ignore"):
        bad = ~((seconds >= 0) & (seconds < LATEST * 1e-6))
    if bad.any():
        i = int(bad.argmax())
        what = "a negative time" if seconds[i] < 0 else "no time that a recording can have"
        raise DataError(f"{where}: event {i} is at {t[i]} s, {what}")
    backwards = seconds[1:] < seconds[:-1]
    if backwards.any():
        i = int(backwards.argmax()) + 1
        raise DataError(
            f"{where}: event {i} at {t[i]} s comes after one at {t[i - 1]} s; events must be sorted by time"
        )
    if u.size and (int(u.min()) < 0 or int(u.max()) >= channels):
        i = int(((u < 0) | (u >= channels)).argmax())
        raise DataError(f"{where}: event {i} is of unit {u[i]}, outside 0 .. {channels - 1}")
    return np.round(seconds * 1e6).astype(np.int32), u.astype(np.uint16)


def held_out_mask(speakers: Sequence[str], held_out: str) -> NDArray[np.bool_]:
    """True where the speaker is one of `held_out`, names separated by commas; some must be left for training."""
    known = set(speakers)
    wanted = {name.strip() for name in str(held_out).split(",")}
    if not wanted <= known:
        raise ArgumentError(
            f"held_out must name speakers ({', '.join(sorted(known))}), separated by commas; got {held_out!r}"
        )
    if wanted == known:
        raise ArgumentError(f"held_out={held_out!r} leaves no speaker to train on")
    return np.array([speaker in wanted for speaker in speakers])
