"""Tensors of few distinct values in few bits: spikes in one, signed spikes in two, counts in four.

Lossless: values are compared and restored as bit patterns. A tensor of real numbers is recognised by a sample before
anything is encoded.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ranvier.ops.memory import empty_flat

SMALLEST = 1024  # elements below which nothing is gained
_SAMPLE = 256
_MOST = 16  # distinct values
_PATTERN = {2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True, eq=False)
class SpikeCodes:
    """An encoded tensor: `bits` a value, `codes` packed into bytes, `table` the values that they stand for."""

    codes: Tensor
    table: Tensor
    bits: int
    like: Tensor  # on the meta device: shape, strides, dtype
    requires_grad: bool

    @property
    def nbytes(self) -> int:
        """Bytes of codes and table."""
        return self.codes.numel() + self.table.numel() * self.table.element_size()

    def decode(self) -> Tensor:
        """The tensor as it was, in the same memory layout."""
        shape, stride, dtype = self.like.shape, self.like.stride(), self.like.dtype
        if self.codes.device.type == "cpu":
            from ranvier.ops import numba_spike_codes

            flat = empty_flat(self.like.numel(), dtype)
            numba_spike_codes.decode(self.codes, self.table, self.bits, flat)
        else:
            shifts = torch.arange(8, device=self.codes.device, dtype=torch.uint8)
            flat = ((self.codes[:, None] >> shifts) & 1).view(-1)[: self.like.numel()].to(dtype)
        return flat.as_strided(shape, stride).requires_grad_(self.requires_grad)


def encode(x: Tensor) -> SpikeCodes | None:
    """`x` in 1, 2 or 4 bits an element; None where it has more than 16 distinct values, is small or is not dense.

    On devices other than the CPU only 0/1 tensors are encoded.
    """
    dense = type(x) is Tensor and x.layout == torch.strided and _is_dense(x)
    if not x.is_floating_point() or x.numel() < SMALLEST or not dense:
        return None
    flat = _flat(x.detach())
    like = torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="meta")
    if x.device.type != "cpu":
        codes = _bits(flat)
        table = torch.tensor([0, 1], dtype=x.dtype)
        return None if codes is None else SpikeCodes(codes, table, 1, like, x.requires_grad)
    pattern = _PATTERN[x.element_size()]
    sample = torch.cat([flat[:: max(1, flat.numel() // _SAMPLE)], torch.tensor([0, 1], dtype=x.dtype)])
    known = sample.view(pattern).unique()
    if len(known) > _MOST:
        return None
    from ranvier.ops import numba_spike_codes

    found = numba_spike_codes.encode(flat.view(pattern), known)
    return None if found is None else SpikeCodes(found[0], found[1].view(x.dtype), found[2], like, x.requires_grad)


def _is_dense(x: Tensor) -> bool:
    """Whether the elements fill their memory, in whatever order of the axes."""
    expected = 1
    for stride, size in sorted(zip(x.stride(), x.shape, strict=True)):
        if size == 1:
            continue
        if stride != expected:
            return False
        expected *= size
    return True


def _flat(x: Tensor) -> Tensor:
    return x.as_strided((x.numel(),), (1,))


def _bits(flat: Tensor) -> Tensor | None:
    ones = flat == 1
    if bool(((flat != 0) != ones).any()):
        return None
    padded = torch.nn.functional.pad(ones.to(torch.uint8), (0, -flat.numel() % 8)).view(-1, 8)
    shifts = torch.arange(8, device=flat.device, dtype=torch.uint8)
    return (padded << shifts).sum(1, dtype=torch.uint8)
