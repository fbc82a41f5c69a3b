"""Events to frames as time goes by: one frame is held, whatever the rate of events."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ranvier.errors import ArgumentError
from ranvier.infer.stream.order import Columns

Array = NDArray[np.floating[Any]]


class Framer:
    """Counts ordered events into windows of `window_us` from the first event on; a window is over when a later event,
    or `advance`, says so.

    Args:
        shape: of a frame, `(C, H, W)`: 2 channels are OFF and ON, 1 is both; `(N, 1, 1)` are N units, of which event x
            is number x · N / width.
        window_us: length of a window.
        sensor: `(height, width)` of the sender, scaled to the frame; None is the frame's own.
        values: "count" or "binary".
        longest_gap: empty windows in a row after which a silence ends the recording (None: never).

    Attributes:
        outside: events off the sensor, which are left out; events: those that were counted; gaps: silences that ended a
            recording.
    """

    def __init__(
        self, shape: tuple[int, ...], window_us: int, sensor: tuple[int, int] | None = None,
        values: Literal["count", "binary"] = "count", longest_gap: int | None = 1000,
    ) -> None:  # fmt: skip
        if len(shape) != 3 or (shape[0] not in (1, 2) and shape[1:] != (1, 1)):
            raise ArgumentError(
                f"events make frames (1 or 2, H, W) or (N, 1, 1) units, and this net takes {tuple(shape)}"
            )
        if isinstance(window_us, bool) or not isinstance(window_us, int) or window_us < 1:
            raise ArgumentError(f"window_us must be an integer >= 1 (microseconds), got {window_us!r}")
        if values not in ("count", "binary"):
            raise ArgumentError(f"values must be 'count' or 'binary', got {values!r}")
        if longest_gap is not None and (not isinstance(longest_gap, int) or longest_gap < 1):
            raise ArgumentError(f"longest_gap must be a number of windows >= 1 or None, got {longest_gap!r}")
        self.shape, self.window_us, self.values, self.longest_gap = shape, window_us, values, longest_gap
        self.units = shape[1:] == (1, 1)
        own = (1, shape[0]) if self.units else (shape[1], shape[2])
        self.sensor = own if sensor is None else sensor
        if min(self.sensor) < 1:
            raise ArgumentError(f"sensor must be (height, width), got {sensor!r}")
        self.outside = self.events = self.gaps = 0
        self._counts = np.zeros(int(np.prod(shape)), np.float32)
        self.reset()

    def reset(self) -> None:
        """The next event begins a new recording."""
        self._stop: int | None = None
        self._counts[:] = 0
        self._empty = True

    def push(self, events: Columns) -> Iterator[Array | None]:
        """The frames that are complete after these events; None where a silence ended the recording."""
        t = events[0]
        at = 0
        while at < len(t):
            if self._stop is None:
                self._stop = int(t[at]) + self.window_us
            cut = int(np.searchsorted(t, self._stop))
            if cut > at:
                self._count(events, at, cut)
                at = cut
            if at < len(t):
                yield from self._close(int(t[at]))

    def advance(self, time_us: int) -> Iterator[Array | None]:
        """Nothing before `time_us` is still to come."""
        if self._stop is not None and time_us >= self._stop:
            yield from self._close(time_us)

    def finish(self) -> Iterator[Array]:
        """The last, unfinished window, if anything is in it; then a new recording begins."""
        if self._stop is not None and not self._empty:
            yield self._frame()
        self.reset()

    def _close(self, until: int) -> Iterator[Array | None]:
        """Frames of all windows that end at or before `until`."""
        assert self._stop is not None
        silent = 0
        while self._stop is not None and self._stop <= until:
            silent = silent + 1 if self._empty else 0
            left = (until - self._stop) // self.window_us  # windows that follow, all of them empty
            if self.longest_gap is not None and silent + left >= self.longest_gap:
                if not self._empty:
                    yield self._frame()
                self.gaps += 1
                self.reset()
                yield None
                return
            self._stop += self.window_us
            yield self._frame()

    def _frame(self) -> Array:
        frame = self._counts.copy().reshape(self.shape)
        if self.values == "binary":
            np.minimum(frame, 1, out=frame)
        self._counts[:] = 0
        self._empty = True
        return frame

    def _count(self, events: Columns, first: int, last: int) -> None:
        x, y, p = (c[first:last].astype(np.int64) for c in events[1:])
        inside = (x < self.sensor[1]) & (y < self.sensor[0])
        if not inside.all():
            self.outside += int((~inside).sum())
            x, y, p = x[inside], y[inside], p[inside]
        if self.units:
            place = x * self.shape[0] // self.sensor[1]
        else:
            channels, height, width = self.shape
            place = (y * height // self.sensor[0]) * width + x * width // self.sensor[1]
            if channels == 2:
                place += p * (height * width)
        np.add.at(self._counts, place, 1)
        self.events += len(x)
        self._empty = self._empty and not len(x)
