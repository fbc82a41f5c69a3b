"""Sliding windows over a recording, and windows as clouds of points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ranvier.data.events.stream import Events
from ranvier.errors import ArgumentError, DataError


def sliding_windows(events: Events, length: float, hop: float, min_events: int = 1) -> list[Events]:
    """Windows of `length` seconds every `hop` seconds, both ends included; the last incomplete one is dropped.

    Starts are `t_first + i · hop` while `start + length < t_last`. Windows of at most `min_events − 1` events are left
    out. A recording without events has none.
    """
    if not length > 0 or not hop > 0:
        raise ArgumentError(f"length and hop must be positive seconds, got {length!r} and {hop!r}")
    if not len(events):
        return []
    span, step = round(length * 1e6), round(hop * 1e6)
    if span < 1 or step < 1:
        raise ArgumentError(f"length and hop must be at least a microsecond, got {length!r} and {hop!r}")
    starts = np.arange(events.t[0], events.t[-1] - span, step)
    first = np.searchsorted(events.t, starts, side="left")
    last = np.searchsorted(events.t, starts + span, side="right")
    return [events[a:b] for a, b in zip(first.tolist(), last.tolist(), strict=True) if b - a >= max(1, min_events)]


def to_cloud(
    window: Events, points: int, sensor_size: tuple[int, int], generator: torch.Generator | None = None
) -> Tensor:
    """A cloud float32 `[points, 3]` of (x/W, y/H, time), each in [0, 1], of a window; polarity is dropped.

    Events are drawn without replacement, or with it where there are too few, and stay in the order of time; time runs
    from 0 (the first one drawn) to 1. Raises `DataError` for a window without events or an event off the sensor.
    """
    height, width = sensor_size
    if not isinstance(points, int) or points < 1:
        raise ArgumentError(f"points must be a positive integer, got {points!r}")
    n = len(window)
    if not n:
        raise DataError("a window without events makes no cloud")
    if n >= points:
        rows = torch.randperm(n, generator=generator)[:points]
    else:
        rows = torch.randint(n, (points,), generator=generator)
    rows = rows.sort().values.numpy()
    x, y, t = window.x[rows].astype(np.float64), window.y[rows].astype(np.float64), window.t[rows]
    if int(x.max()) >= width or int(y.max()) >= height:
        i = int(np.argmax((x >= width) | (y >= height)))
        raise DataError(f"an event lies at x={x[i]:.0f}, y={y[i]:.0f}, off the {height} x {width} sensor")
    z = (t - t[0]) / (t[-1] - t[0] + 1e-6)
    return torch.from_numpy(np.stack([x / width, y / height, z], 1).astype(np.float32))


@dataclass(frozen=True)
class CloudAugment:
    """What is done to event clouds in training; the defaults do nothing.

    Attributes:
        crop: probability of cutting a box: half of the time 70 to 99 % of each side of the image, else 60 to 100 % of
            the time; its points fill the cloud again, drawn with replacement.
        flip_x, flip_y, reverse: probabilities of mirroring. Mirrored time changes the class of a directed action.
    """

    crop: float = 0.0
    flip_x: float = 0.0
    flip_y: float = 0.0
    reverse: float = 0.0

    def __call__(self, clouds: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Clouds `[B, N, 3]` with coordinates in [0, 1] to the same shape."""

        def draw(*shape: int) -> Tensor:
            return torch.rand(shape, generator=generator)

        out = clouds.clone()
        b = len(clouds)
        for axis, probability in enumerate((self.flip_x, self.flip_y, self.reverse)):
            if probability:
                flipped = draw(b) < probability
                out[flipped, :, axis] = 1 - out[flipped, :, axis]
        if self.crop:
            for i in (draw(b) < self.crop).nonzero().flatten().tolist():
                out[i] = _cropped(out[i], draw(7), generator)
        return out


def _cropped(cloud: Tensor, drawn: Tensor, generator: torch.Generator | None) -> Tensor:
    if float(drawn[0]) < 0.5:
        size = 0.7 + 0.29 * drawn[1:3]
        axes = [0, 1]
    else:
        size = 0.6 + 0.4 * drawn[1:2]
        axes = [2]
    low = (1 - size) * drawn[3 : 3 + len(axes)]
    inside = ((cloud[:, axes] >= low) & (cloud[:, axes] <= low + size)).all(1).nonzero().flatten()
    if not len(inside):
        return cloud
    extra = inside[torch.randint(len(inside), (len(cloud) - len(inside),), generator=generator)]
    rows = torch.cat([inside, extra]).sort().values
    picked = cloud[rows].clone()
    if axes == [2]:  # time runs from 0 to 1 again
        t = picked[:, 2]
        picked[:, 2] = (t - t.min()) / (t.max() - t.min()).clamp_min(1e-6)
    return picked
