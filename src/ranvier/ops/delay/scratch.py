"""Large temporaries of the delay ops, from the pool of buffers that return to it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ranvier.ops.memory import LARGE, POOL


def empty(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device | None = None) -> Tensor:
    """`torch.empty`, contiguous; on the CPU large ones are reused memory."""
    nbytes = math.prod(shape) * dtype.itemsize
    if (device is not None and device.type != "cpu") or nbytes < LARGE:
        return torch.empty(shape, dtype=dtype, device=device)
    return torch.from_numpy(POOL.take(nbytes)).view(dtype).view(shape)
