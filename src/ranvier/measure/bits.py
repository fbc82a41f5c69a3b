"""How many one-bits there are in quantised activations: what a bit-serial multiplier has to work through."""

from __future__ import annotations

import torch
from torch import Tensor

from ranvier.errors import ArgumentError


def check_bits(bits: int, argument: str = "bits") -> int:
    """`bits` as a width of 1 to 16; raises `ArgumentError` otherwise."""
    if isinstance(bits, bool) or not isinstance(bits, int) or not 1 <= bits <= 16:
        raise ArgumentError(f"{argument} must be a width of 1 to 16 bits, got {bits!r}")
    return bits


def one_bits(x: Tensor, bits: int, T: int = 1) -> tuple[int, int]:
    """One-bits and all bits of the mean over time of `x`, as the quantised twin of a spiking net holds it.

    The mean over the `T` steps (outermost in `x`, `[T·B, ...]` or `[T, B, ...]`) is quantised to `bits` bits of
    magnitude over its largest absolute value; a sign is not counted. Where `x` does not divide into T steps, every
    value counts by itself.
    """
    check_bits(bits)
    if T > 1 and x.dim() > 1 and x.shape[0] == 1:  # the [1, M, K] of a plain matrix product
        x = x[0]
    if T > 1 and x.shape[0] % T == 0:
        x = x.reshape(T, -1).mean(0, dtype=torch.float32)
    size = x.detach().abs().to(torch.float32)
    largest = float(size.max()) if size.numel() else 0.0
    if largest == 0 or largest == float("inf"):
        return 0, size.numel() * bits
    code = (size * ((2**bits - 1) / largest)).round().to(torch.int32)
    ones = sum(int(((code >> place) & 1).sum()) for place in range(bits))
    return ones, size.numel() * bits
