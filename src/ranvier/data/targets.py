"""Targets that are not one label a sample: a class for every pixel or point, and objects in boxes.

Maps are int64, `[B, H, W]` for images and `[B, N]` for clouds, with `IGNORED` where nothing counts. Objects are one
float32 table `[B, M, 2 + D]`: a row is (class, D numbers of the box, level), padded with rows of class −1. D is 4 for
images (x1, y1, x2, y2 in pixels) and 7 for clouds (x, y, z, dx, dy, dz, heading). The level says how an object counts:
of images 0, or 1 for a crowd that is neither asked for nor held against anyone; of clouds 0 easy, 1 moderate, 2 hard,
3 not counted at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ranvier.data.samples import Indices, Samples, as_index
from ranvier.errors import ArgumentError, ShapeError

IGNORED = -1
UNCOUNTED = {4: 1, 7: 3}
"""The level, by the numbers of a box, from which an object is not learnt and does not count."""


class TargetSamples(Samples):
    """Base of samples whose y is a tensor. `labels` are only what a split keeps in balance."""

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of a data set of {len(self)}")
        x, y = self.batch([int(index) % len(self)])
        return x.squeeze(1 if self.time_first else 0), y[0]


class ArrayTargets(TargetSamples):
    """Samples and targets in memory: values `[N, ...]` of which a batch is `values / scale`, targets `[N, ...]`.

    Targets of integers become int64 (−1 is `IGNORED`), others float32.
    """

    def __init__(self, values: Tensor, targets: Tensor, scale: float = 1.0, labels: Tensor | None = None) -> None:
        if len(values) != len(targets) or values.dim() < 3 or targets.dim() < 2:
            raise ShapeError(
                f"values and targets must be equally many samples, got {tuple(values.shape)} and {tuple(targets.shape)}"
            )
        self.values, self.targets, self.scale, self.time_first = values, targets, scale, False
        self.labels = torch.zeros(len(values), dtype=torch.int64) if labels is None else labels.to(torch.int64)

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        index = as_index(indices, len(self))
        x = self.values[index].to(torch.float32)
        y = self.targets[index]
        y = y.to(torch.float32 if y.is_floating_point() else torch.int64)
        return (x if self.scale == 1 else x.div_(self.scale)), y


def table(boxes: Sequence[Tensor], labels: Sequence[Tensor], levels: Sequence[Tensor] | None = None) -> Tensor:
    """One table `[B, M, 2 + D]` of the boxes `[n, D]`, classes `[n]` and levels `[n]` (0 unless given) of B samples."""
    if len(boxes) != len(labels) or not boxes:
        raise ArgumentError(f"boxes and labels must be one tensor a sample, got {len(boxes)} and {len(labels)}")
    width = boxes[0].shape[-1]
    out = torch.zeros(len(boxes), max(1, *(len(b) for b in boxes)), 2 + width)
    out[..., 0] = -1
    for i, (own, kinds) in enumerate(zip(boxes, labels, strict=True)):
        if own.shape != (len(kinds), width):
            raise ShapeError(f"boxes of sample {i} must be [{len(kinds)}, {width}], got {tuple(own.shape)}")
        out[i, : len(own), 0] = kinds.to(out.dtype)
        out[i, : len(own), 1:-1] = own
        if levels is not None:
            out[i, : len(own), -1] = levels[i].to(out.dtype)
    return out


def objects(targets: Tensor, counted: bool = True) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Boxes `[n, D]`, classes `[n]` and levels `[n]` of every sample of a table; `counted` leaves out what is not."""
    if targets.dim() != 3 or targets.shape[-1] - 2 not in UNCOUNTED:
        raise ShapeError(f"objects must be a table [B, M, 6] or [B, M, 9], got {tuple(targets.shape)}")
    limit = UNCOUNTED[targets.shape[-1] - 2]
    boxes: list[Tensor] = []
    labels: list[Tensor] = []
    levels: list[Tensor] = []
    for rows in targets:
        kept = rows[(rows[:, 0] >= 0) & ((rows[:, -1] < limit) if counted else True)]
        boxes.append(kept[:, 1:-1])
        labels.append(kept[:, 0].long())
        levels.append(kept[:, -1].long())
    return boxes, labels, levels
