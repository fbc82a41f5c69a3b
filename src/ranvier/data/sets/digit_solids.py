"""Handwritten digits lifted into space: every stroke becomes a solid as high as it is dark."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ranvier.data.bundle import DATASETS, DatasetEntry, Parts
from ranvier.data.points.samples import GridSamples
from ranvier.data.samples import Samples
from ranvier.data.sets.mnist import load_mnist
from ranvier.errors import ArgumentError


def load_mnist_solids(root: Path | None, path: str | None = None, height: int = 8, turn: bool = True) -> Parts:
    """MNIST as occupancy grids `[1, height, 28, 28]`: the surface over a digit, z = ⌈brightness · height⌉ − 1.

    Args:
        height: layers of the grid.
        turn: swap the axes of the grid by the number of the sample modulo 3, so that digits lie in three planes (the
            grid is then 28 voxels on every axis).
    """
    if not isinstance(height, int) or not 1 <= height <= 28:
        raise ArgumentError(f"height must be an integer from 1 to 28, got {height!r}")
    parts = load_mnist(root, path)

    def lifted(samples: Samples) -> GridSamples:
        return _Solids(samples, height, turn)

    return Parts(lifted(parts.train), lifted(parts.test), parts.classes, parts.content)


class _Solids(GridSamples):
    """Made when asked for: the whole set as grids would be gigabytes."""

    def __init__(self, samples: Samples, height: int, turn: bool) -> None:
        self.samples, self.height, self.turn = samples, height, turn
        self.labels, self.time_first, self.scale = samples.labels, False, 1.0

    def batch(self, indices: object) -> tuple[Tensor, Tensor]:
        images, labels = self.samples.batch(indices)  # pyright: ignore[reportArgumentType]
        numbers: NDArray[np.int64] = np.asarray(indices).reshape(-1)
        return lift(images[:, 0], self.height, numbers if self.turn else None), labels


def lift(images: Tensor, height: int, numbers: NDArray[np.int64] | None = None) -> Tensor:
    """Images `[B, H, W]` in [0, 1] to surfaces `[B, 1, height, H, W]`; with `numbers` in cubes, axes turned."""
    b, h, w = images.shape
    layer = (images * height).ceil().long()
    grid = torch.zeros(b, height, h, w)
    lit = layer > 0
    sample, y, x = lit.nonzero().unbind(1)
    grid[sample, layer[lit] - 1, y, x] = 1
    if numbers is None:
        return grid[:, None]
    side = max(height, h, w)
    cube = torch.zeros(b, side, side, side)
    cube[:, (side - height) // 2 : (side - height) // 2 + height, :h, :w] = grid
    turned = [c.permute(*np.roll((0, 1, 2), int(n) % 3).tolist()) for c, n in zip(cube, numbers, strict=True)]
    return torch.stack(turned)[:, None]


def _find(root: Path | None) -> Path | None:
    return DATASETS["mnist"].find(root)


DATASETS.register("mnist_solids")(
    DatasetEntry(kind="voxels", load=load_mnist_solids, find=_find, how=DATASETS["mnist"].how)
)
