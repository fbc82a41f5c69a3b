"""Map-style data sets of `(x, y)` that can also hand out whole batches at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from ranvier.errors import ArgumentError, ShapeError

Indices: TypeAlias = Sequence[int] | NDArray[np.integer] | Tensor


class Samples(Dataset[tuple[Tensor, int]]):
    """Base of the data sets here: `labels` is int64 `[N]`; a sequence has `time_first` batches.

    `dataset[i]` is `(x, y)`: a float32 tensor, `[C, H, W]` or `[T, C, H, W]`, and an int. `dataset.batch(indices)` is
    the same for many samples in one go: `[B, C, H, W]`, or `[T, B, C, H, W]` for sequences, and int64 labels `[B]`.
    `keys` names the picture behind each sample where that is known: data sets that show the same pictures (images, and
    recordings of them) share these names.
    """

    labels: Tensor
    time_first: bool
    keys: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of a data set of {len(self)}")
        x, y = self.batch([int(index) % len(self)])
        return x.squeeze(1 if self.time_first else 0), int(y)

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """`(x, y)` of the samples at `indices`."""
        raise ArgumentError(f"{type(self).__name__} defines no batch(indices)")


class ArraySamples(Samples):
    """Samples in memory as integers, `[N, C, H, W]` or sequences `[N, T, C, H, W]`; a batch is `values / scale`."""

    def __init__(self, values: Tensor, labels: Tensor, scale: float = 255.0) -> None:
        if values.ndim not in (4, 5) or labels.ndim != 1 or len(values) != len(labels):
            raise ShapeError(
                f"values must be [N, C, H, W] or [N, T, C, H, W] with labels [N], got {tuple(values.shape)} and "
                f"{tuple(labels.shape)}"
            )
        self.values = values
        self.labels = labels.to(torch.int64)
        self.scale = scale
        self.time_first = values.ndim == 5

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        index = as_index(indices, len(self))
        x = self.values[index]
        if self.time_first:
            x = x.transpose(0, 1).contiguous()  # still small integers here
        x = x.to(torch.float32)
        return (x if self.scale == 1 else x.div_(self.scale)), self.labels[index]


class Subset(Samples):
    """Some samples of another data set, in the order of `indices`; nothing is copied."""

    def __init__(self, dataset: Samples, indices: Indices) -> None:
        self.dataset = dataset
        self.indices = as_index(indices, len(dataset))
        self.labels = dataset.labels[self.indices]
        self.time_first = dataset.time_first
        keys = dataset.keys
        if keys is not None:
            self.keys = [keys[int(i)] for i in self.indices]

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of a data set of {len(self)}")
        return self.dataset[int(self.indices[index])]

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        return self.dataset.batch(self.indices[as_index(indices, len(self))])


class Joined(Samples):
    """The samples of several data sets of one shape, one after the other; nothing is copied."""

    def __init__(self, parts: Sequence[Samples]) -> None:
        if not parts or len({part.time_first for part in parts}) != 1:
            raise ArgumentError("parts must be data sets of one kind, at least one")
        self.parts = list(parts)
        self.labels = torch.cat([part.labels for part in self.parts])
        self.time_first = self.parts[0].time_first
        if all(part.keys is not None for part in self.parts):
            self.keys = [key for part in self.parts for key in part.keys or ()]
        self._starts = np.cumsum([0, *(len(part) for part in self.parts)])

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        index = as_index(indices, len(self))
        home = torch.from_numpy(np.searchsorted(self._starts, index.numpy(), side="right") - 1)
        present = sorted(set(home.tolist())) or [0]
        pieces = [self.parts[n].batch(index[home == n] - int(self._starts[n]))[0] for n in present]
        axis = 1 if self.time_first else 0
        back = home.argsort(stable=True).argsort()
        return torch.cat(pieces, axis).index_select(axis, back), self.labels[index]


def subset(dataset: Samples, indices: Indices) -> Samples:
    """The samples of `dataset` at `indices`, in that order."""
    return Subset(dataset, indices)


def as_index(indices: Indices, count: int) -> Tensor:
    """`indices` as an int64 tensor, checked to lie in `0 .. count − 1`."""
    index = torch.as_tensor(np.asarray(indices)) if not isinstance(indices, Tensor) else indices
    if index.numel() == 0:
        return index.reshape(-1).to(torch.int64)
    if index.ndim != 1 or index.is_floating_point() or index.dtype == torch.bool:
        raise ArgumentError(f"indices must be a list of integers, got shape {tuple(index.shape)} of {index.dtype}")
    low, high = int(index.min()), int(index.max())
    if low < 0 or high >= count:
        raise ArgumentError(f"indices must lie in 0 .. {count - 1}, got {low if low < 0 else high}")
    return index.to(torch.int64)
