"""Samples whose steps are vectors of real features, such as the bands of a spectrum."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ranvier.data.samples import Indices, Samples, as_index

Scale = tuple[Tensor, Tensor]


class FrameSamples(Samples):
    """Some of the sequences `frames` `[N, T, features]`; with `scale` (mean, std), every feature is standardised."""

    def __init__(self, frames: Tensor, labels: Tensor, index: Any, scale: Scale | None = None) -> None:
        self.frames, self.scale = frames, scale
        self.index = torch.as_tensor(np.asarray(index), dtype=torch.int64)
        self.labels = labels[self.index].to(torch.int64)
        self.time_first = True

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        index = as_index(indices, len(self))
        x = self.frames[self.index[index]].transpose(0, 1).contiguous()
        return standardised(x, self.scale), self.labels[index]


def standardised(x: Tensor, scale: Scale | None) -> Tensor:
    """`(x − mean) / std` on the last axis, in place."""
    return x if scale is None else x.sub_(scale[0]).div_(scale[1])


def frame_statistics(frames: NDArray[np.float32]) -> Scale:
    """`(mean, std)` of each feature of `[N, T, features]`; a constant feature has a std of 1."""
    flat = frames.reshape(-1, frames.shape[-1])
    mean, std = flat.mean(0, dtype=np.float64), flat.std(0, dtype=np.float64)
    std[std < 1e-6] = 1.0
    return torch.from_numpy(mean.astype(np.float32)), torch.from_numpy(std.astype(np.float32))
