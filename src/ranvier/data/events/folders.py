"""Recordings in files that are read, counted in frames and resized: in memory once and cached, or batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ranvier.data.cache import Arrays, cache_key, keep, lookup
from ranvier.data.events.frames import to_frames
from ranvier.data.events.stream import Events
from ranvier.data.samples import ArraySamples, Indices, Samples, as_index
from ranvier.errors import ArgumentError, DataError

IN_MEMORY_BYTES = 2 << 30  # of frames; more are binned batch by batch


@dataclass(frozen=True)
class Binning:
    """How a recording becomes frames `[T, 2, size, size]`.

    Windows of equal time; every pixel counts; `sensor` is (height, width), None: the extent of each recording; `crop`
    is (top, bottom, left, right) of the sensor; `peak` divides every frame and polarity by its largest
    count. The frames are resized bilinearly, corners on corners.
    """

    T: int
    size: int | None
    split_by: Literal["time", "count"] = "time"
    sensor: tuple[int, int] | None = None
    crop: tuple[int, int, int, int] | None = None
    peak: bool = False

    def __post_init__(self) -> None:
        for name, value in (("T", self.T), ("size", 1 if self.size is None else self.size)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ArgumentError(f"{name} must be an integer of at least 1, got {value!r}")
        if self.split_by not in ("time", "count"):
            raise ArgumentError(f"split_by must be 'time' or 'count', got {self.split_by!r}")
        if self.size is None and self.sensor is None:
            raise ArgumentError("size: the recordings differ in extent, so that their frames need a size")

    def frames(self, events: Events) -> Tensor:
        """Frames `[T, 2, H, W]` of a recording, float32."""
        if not len(events):
            raise DataError("the recording holds no events")
        sensor = self.sensor or (int(events.y.max()) + 1, int(events.x.max()) + 1)
        frames = to_frames(events, self.T, sensor, split_by=self.split_by)
        if self.peak:
            frames = frames / frames.amax((2, 3), keepdim=True).clamp_min(1)
        if self.crop is not None:
            top, bottom, left, right = self.crop
            frames = frames[..., top:bottom, left:right]
        if self.size is None or frames.shape[-2:] == (self.size, self.size):
            return frames
        return F.interpolate(frames, size=(self.size, self.size), mode="bilinear", align_corners=True)


class FileRecordings(Samples):
    """Recordings that `read(number)` gives, binned when asked for."""

    def __init__(
        self, read: Callable[[int], Events], labels: Sequence[int], keys: Sequence[str] | None, binning: Binning
    ) -> None:
        self.read, self.binning = read, binning
        self.labels = torch.tensor(list(labels), dtype=torch.int64)
        self.keys = keys
        self.time_first = True

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        index = as_index(indices, len(self))
        frames = [self.binning.frames(self.read(i)) for i in index.tolist()]
        if not frames:
            size = self.binning.size or 1
            return torch.zeros(self.binning.T, 0, 2, size, size), self.labels[index]
        return torch.stack(frames, 1), self.labels[index]


class HalfSamples(ArraySamples):
    """Frames in memory as float16, `[N, T, C, H, W]`: small averages of counts to three digits."""

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        index = as_index(indices, len(self))
        return self.values[index].transpose(0, 1).to(torch.float32), self.labels[index]


def kept_frames(
    name: str, files: dict[str, FileRecordings], content: str, choice: bool | Literal["auto"], *form: Any
) -> dict[str, Samples]:
    """`files`, or their frames in memory and in the cache under `name`, by `choice` or by their size (2 GiB)."""
    if choice not in (True, False, "auto"):
        raise ArgumentError(f"in_memory must be true, false or 'auto', got {choice!r}")
    first = next(iter(files.values()))
    shape = tuple(first.binning.frames(first.read(0)).shape)
    total = sum(len(part) for part in files.values()) * int(np.prod(shape)) * 2
    if not choice or (choice == "auto" and total > IN_MEMORY_BYTES):
        return dict(files)
    key = cache_key(content, *form, 1)
    found = lookup(name, key)
    if found is None:
        arrays: Arrays = {}
        for split, part in files.items():
            frames: NDArray[np.float16] = np.empty((len(part), *shape), np.float16)
            for i in range(len(part)):
                frames[i] = part.binning.frames(part.read(i)).numpy()
            arrays[split] = frames
        found = keep(name, key, arrays, {})
    made: dict[str, Samples] = {}
    for split, part in files.items():
        made[split] = HalfSamples(torch.from_numpy(found[0][split]), part.labels, scale=1)
        made[split].keys = part.keys
    return made
