"""Events to frames: the stream is cut into T windows, and every window is counted pixel by pixel."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ranvier.data.events.stream import Events
from ranvier.errors import ArgumentError, DataError
from ranvier.ops.backend import use_kernels

# The largest count that is still exact in the type of the frames.
_CEILING = {torch.float32: 1 << 24, torch.int32: (1 << 31) - 1, torch.uint8: 255}


def to_frames(
    events: Events | NDArray[Any],
    T: int,
    sensor_size: tuple[int, int],
    *,
    split_by: Literal["time", "count"] = "time",
    values: Literal["count", "binary"] = "count",
    polarities: Literal[1, 2] = 2,
    window: tuple[int, int] | None = None,
    empty: Literal["zeros", "error"] = "zeros",
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Frames `[T, polarities, H, W]` of a recording.

    Args:
        events: `Events`, or a structured array with the fields t, x, y, p.
        T: number of frames.
        sensor_size: `(height, width)` in pixels.
        split_by: `"time"` cuts the duration into T equal windows: event t goes to frame
            `floor((t − start) T / (stop − start))`. `"count"` gives every frame the same number of events (of N events,
            event i goes to frame `floor(i T / N)`).
        values: number of events, or 1 where there is at least one.
        polarities: 2 puts OFF in channel 0 and ON in channel 1; 1 puts both in one channel.
        window: `(start, stop)` in microseconds, stop excluded; events outside are left out. By default from the first
            event to the last (stop is one microsecond after it).
        empty: what a recording (or window) without events gives: frames of zeros, or a `DataError`.
        dtype: torch.float32, torch.int32 or torch.uint8, in which counts stop at 255.

    Raises `DataError` for an event outside the sensor (no event is dropped in silence), or events out of order;
    `ArgumentError` for options that make no sense.
    """
    height, width = _check(T, sensor_size, split_by, values, polarities, empty, dtype)
    if not isinstance(events, Events):
        events = Events.from_structured(np.asarray(events))
    first = _first_events(events.t, T, split_by, window)
    if first[0] == first[-1] and empty == "error":
        raise DataError(f"a recording of {len(events)} events has none in the window to make frames of")
    frames = torch.zeros(T, polarities, height, width, dtype=dtype)
    if use_kernels("cpu"):
        from ranvier.data.events.numba_frames import accumulate

        bad = int(accumulate(
            first, events.x, events.y, events.p, frames.numpy(), values == "binary", _CEILING[dtype]
        ))  # fmt: skip
    else:
        bad = accumulate_reference(first, events, frames, values == "binary")
    if bad >= 0:
        raise DataError(
            f"event {bad} lies at x={events.x[bad]}, y={events.y[bad]}, outside the sensor of {height} x {width} "
            "(height x width)"
        )
    return frames


def accumulate_reference(first: NDArray[np.int64], events: Events, frames: Tensor, binary: bool) -> int:
    """The definition in plain NumPy: adds to `frames`, returns the first event outside them or −1."""
    T, P, H, W = frames.shape
    part = slice(int(first[0]), int(first[-1]))
    x, y = events.x[part].astype(np.int64), events.y[part].astype(np.int64)
    outside = (x >= W) | (y >= H)
    if outside.any():
        return int(outside.argmax()) + part.start
    frame = np.repeat(np.arange(T), np.diff(first))
    channel = events.p[part] if P == 2 else np.zeros(len(x), np.int64)
    counts = np.zeros(frames.shape, np.int64)
    np.add.at(counts, (frame, channel, y, x), 1)
    counts = np.minimum(counts, 1 if binary else _CEILING[frames.dtype])
    frames += torch.from_numpy(counts).to(frames.dtype)
    return -1


def _first_events(t: NDArray[np.int64], T: int, split_by: str, window: tuple[int, int] | None) -> NDArray[np.int64]:
    """`[T + 1]`: the number of the first event of every frame, and the end."""
    if window is not None:
        start, stop = (int(edge) for edge in window)
        if stop <= start:
            raise ArgumentError(f"window must be (start, stop) with stop after start, got {window!r}")
    elif len(t):
        start, stop = int(t[0]), int(t[-1]) + 1
    else:
        return np.zeros(T + 1, np.int64)
    steps = np.arange(T + 1, dtype=np.int64)
    if split_by == "time":
        # floor((t − start) T / span) >= b  <=>  t − start >= ceil(b span / T); Python integers cannot overflow
        edges = [start - (-b * (stop - start) // T) for b in range(T + 1)]
        return np.searchsorted(t, np.array(edges, np.int64)).astype(np.int64)
    low, high = np.searchsorted(t, [start, stop])
    return low + -(-steps * (high - low) // T)


def _check(
    T: int, sensor_size: tuple[int, int], split_by: str, values: str, polarities: int, empty: str, dtype: torch.dtype
) -> tuple[int, int]:
    if not isinstance(T, int) or isinstance(T, bool) or T < 1:
        raise ArgumentError(f"T must be an integer of at least 1, got {T!r}")
    size = tuple(sensor_size) if isinstance(sensor_size, list | tuple) else ()
    if len(size) != 2 or not all(isinstance(n, int | np.integer) and n > 0 for n in size):
        raise ArgumentError(f"sensor_size must be (height, width) in pixels, got {sensor_size!r}")
    choices: list[tuple[str, Any, tuple[Any, ...]]] = [
        ("split_by", split_by, ("time", "count")), ("values", values, ("count", "binary")),
        ("polarities", polarities, (1, 2)), ("empty", empty, ("zeros", "error")), ("dtype", dtype, tuple(_CEILING)),
    ]  # fmt: skip
    for name, given, allowed in choices:
        if given not in allowed:
            raise ArgumentError(f"{name} must be one of {', '.join(map(str, allowed))}; got {given!r}")
    return int(size[0]), int(size[1])
