"""CUDA kernel of the SPAM update, in Triton: one pass over the memory of a tensor and its moments."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ranvier.ops.spam_step.reference import SpamUpdate

BLOCK = 1024


@triton.jit
def _kernel(
    p_ptr, g_ptr, m_ptr, v_ptr, numbers_ptr, count_ptr, size, CLIP: tl.constexpr, GUARD: tl.constexpr,
    ZERO: tl.constexpr, NEGATE: tl.constexpr, WORK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    # Numbers come from memory: as arguments, float64 would be rounded and every new rate would be a new argument type.
    beta1 = tl.load(numbers_ptr).to(WORK)
    rest1 = tl.load(numbers_ptr + 1).to(WORK)
    beta2 = tl.load(numbers_ptr + 2).to(WORK)
    rest2 = tl.load(numbers_ptr + 3).to(WORK)
    root = tl.load(numbers_ptr + 4).to(WORK)
    step = tl.load(numbers_ptr + 5).to(WORK)
    eps = tl.load(numbers_ptr + 6).to(WORK)
    keep = tl.load(numbers_ptr + 7).to(WORK)
    c = tl.load(g_ptr + at, inside, other=0.0).to(WORK)
    m = tl.load(m_ptr + at, inside, other=0.0).to(WORK)
    v = tl.load(v_ptr + at, inside, other=0.0).to(WORK)
    p = tl.load(p_ptr + at, inside, other=0.0).to(WORK)
    if NEGATE:
        c = -c
    if CLIP:
        limit = root * tl.sqrt(v)
        spiked = tl.abs(c) > limit
        if GUARD:
            spiked = spiked & (v > 0)
        limit = tl.where(c < 0, -limit, limit)
        if ZERO:
            limit = tl.zeros_like(limit)
        c = tl.where(spiked, limit, c)
        tl.atomic_add(count_ptr, tl.sum((spiked & inside).to(tl.int64)))
    m = beta1 * m + rest1 * c
    v = beta2 * v + rest2 * c * c
    p = (p - step * m / (tl.sqrt(v) + eps)) * keep
    tl.store(m_ptr + at, m.to(m_ptr.dtype.element_ty), inside)
    tl.store(v_ptr + at, v.to(v_ptr.dtype.element_ty), inside)
    tl.store(p_ptr + at, p.to(p_ptr.dtype.element_ty), inside)


def update(p: Tensor, g: Tensor, m: Tensor, v: Tensor, step: float, u: SpamUpdate) -> Tensor:
    """Update flat contiguous tensors in place, computed in the dtype of the moments or float32 if they are half;
    returns how many coordinates were clipped, on the device."""
    size = p.numel()
    count = torch.zeros((), dtype=torch.int64, device=p.device)
    numbers = torch.tensor(
        [u.beta1, 1 - u.beta1, u.beta2, 1 - u.beta2, u.root or 0.0, step, u.eps, 1 - u.decay], dtype=torch.float64
    ).to(p.device, non_blocking=True)
    work = tl.float64 if m.dtype == torch.float64 else tl.float32
    _kernel[(triton.cdiv(size, BLOCK),)](
        p, g, m, v, numbers, count, size, u.root is not None, u.guard, u.zero, u.maximize, work, BLOCK
    )
    return count
