"""How many outputs each input position of a convolution touches: exact, and separable over the axes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=4096)
def _axis_fan(size: int, out: int, kernel: int, stride: int, padding: int, dilation: int, transposed: bool) -> Tensor:
    """For each of `size` input positions of one axis, the (output position, tap) pairs that read it, as int64."""
    taps = torch.arange(kernel) * dilation - padding
    if transposed:
        reached = torch.arange(size)[:, None] * stride + taps
        return ((reached >= 0) & (reached < out)).sum(1)
    read = (torch.arange(out)[:, None] * stride + taps).flatten()
    return torch.bincount(read[(read >= 0) & (read < size)], minlength=size)


def fan_map(
    size: Sequence[int],
    out: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool = False,
) -> Tensor:
    """The fan-out of every input position to one output channel: int64 of shape `size`, padding and borders exact.

    Multiply by the output channels per group for the outputs that one input element touches. With `transposed` it is
    the map of the transposed convolution with these arguments.
    """
    fan = torch.ones((), dtype=torch.int64)
    for axis in itertools.zip_longest(size, out, kernel, stride, padding, dilation):
        fan = fan.unsqueeze(-1) * _axis_fan(*axis, transposed)
    return fan
