"""CUDA kernels of WKV, in Triton: one program a block of columns, time as a loop inside.

Backward recomputes the states of a chunk of tokens from the one that forward kept before it, into a scratch buffer of
one chunk, and walks back through it.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ranvier.ops.wkv.chunks import CHUNK

CASTS_IN_KERNEL = True


@triton.jit
def _shares(left, right):
    """e to left and to right, both divided by e to the larger one, which comes third."""
    top = tl.maximum(left, right)
    return tl.exp(left - top), tl.exp(right - top), top


@triton.jit
def _forward_kernel(
    w_ptr, u_ptr, k_ptr, v_ptr, p0_ptr, q0_ptr, o0_ptr, y_ptr, p1_ptr, q1_ptr, o1_ptr, borders_ptr, steps, size,
    channels, kept, WORK: tl.constexpr, CHUNK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    column = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = column < size
    w = tl.load(w_ptr + column % channels, inside, other=0.0).to(WORK)
    u = tl.load(u_ptr + column % channels, inside, other=0.0).to(WORK)
    p = tl.load(p0_ptr + column, inside, other=0.0).to(WORK)
    q = tl.load(q0_ptr + column, inside, other=0.0).to(WORK)
    o = tl.load(o0_ptr + column, inside, other=0.0).to(WORK)
    at = column
    for t in range(steps):
        if (t % CHUNK == 0) & (t > 0) & (t // CHUNK <= kept):
            border = borders_ptr + (column * 0 + t // CHUNK - 1) * 3 * size + column
            tl.store(border, p, inside)
            tl.store(border + size, q, inside)
            tl.store(border + 2 * size, o, inside)
        k = tl.load(k_ptr + at, inside, other=0.0).to(WORK)
        v = tl.load(v_ptr + at, inside, other=0.0).to(WORK)
        past, now, _ = _shares(o, u + k)
        y = (past * p + now * v) / (past * q + now)
        tl.store(y_ptr + at, y.to(y_ptr.dtype.element_ty), inside)
        past, now, o = _shares(o + w, k)
        p = past * p + now * v
        q = past * q + now
        at += size
    tl.store(p1_ptr + column, p, inside)
    tl.store(q1_ptr + column, q, inside)
    tl.store(o1_ptr + column, o, inside)


@triton.jit
def _backward_kernel(
    w_ptr, u_ptr, k_ptr, v_ptr, p0_ptr, q0_ptr, o0_ptr, borders_ptr, gy_ptr, gp1_ptr, gq1_ptr, o1_ptr, scratch_ptr,
    gk_ptr, gv_ptr, gp0_ptr, gq0_ptr, gw_ptr, gu_ptr, steps, size, channels, WORK: tl.constexpr, CHUNK: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    column = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = column < size
    w = tl.load(w_ptr + column % channels, inside, other=0.0).to(WORK)
    u = tl.load(u_ptr + column % channels, inside, other=0.0).to(WORK)
    a = tl.load(gp1_ptr + column, inside, other=0.0).to(WORK)
    b = tl.load(gq1_ptr + column, inside, other=0.0).to(WORK)
    r = tl.load(o1_ptr + column, inside, other=0.0).to(WORK)
    o0 = tl.load(o0_ptr + column, inside, other=0.0).to(WORK)
    gw = tl.zeros_like(w)
    gu = tl.zeros_like(w)
    chunks = (steps + CHUNK - 1) // CHUNK
    for index in range(chunks):
        c = chunks - 1 - index
        chunk = column * 0 + c
        border = borders_ptr + (chunk - 1) * 3 * size + column
        stored = inside & (chunk > 0)
        start = inside & (chunk == 0)
        p = tl.load(p0_ptr + column, start, other=0.0).to(WORK) + tl.load(border, stored, other=0.0)
        q = tl.load(q0_ptr + column, start, other=0.0).to(WORK) + tl.load(border + size, stored, other=0.0)
        o = tl.where(chunk == 0, o0, tl.load(border + 2 * size, stored, other=0.0))
        rows = min(CHUNK, steps - c * CHUNK)
        at = column + chunk * CHUNK * size
        here = scratch_ptr + column
        for _ in range(rows):
            tl.store(here, p, inside)
            tl.store(here + size, q, inside)
            tl.store(here + 2 * size, o, inside)
            k = tl.load(k_ptr + at, inside, other=0.0).to(WORK)
            v = tl.load(v_ptr + at, inside, other=0.0).to(WORK)
            past, now, o = _shares(o + w, k)
            p = past * p + now * v
            q = past * q + now
            at += size
            here += 3 * size
        for _ in range(rows):
            at -= size
            here -= 3 * size
            p = tl.load(here, inside, other=0.0)
            q = tl.load(here + size, inside, other=0.0)
            o = tl.load(here + 2 * size, inside, other=0.0)
            k = tl.load(k_ptr + at, inside, other=0.0).to(WORK)
            v = tl.load(v_ptr + at, inside, other=0.0).to(WORK)
            past, now, top = _shares(o, u + k)
            below = past * q + now
            y = (past * p + now * v) / below
            g = tl.load(gy_ptr + at, inside, other=0.0).to(WORK) / below
            token = tl.exp(tl.minimum(k - r, 0.0))
            direct = now * g * (v - y)
            tl.store(gv_ptr + at, (now * g + token * a).to(gv_ptr.dtype.element_ty), inside)
            tl.store(gk_ptr + at, (direct + token * (a * v + b)).to(gk_ptr.dtype.element_ty), inside)
            gu += direct
            gw += tl.exp(tl.minimum(o + w - r, 0.0)) * (a * p + b * q)
            r_next = tl.minimum(top, r - w)
            new = tl.exp(r_next - top)
            old = tl.exp(r_next - (r - w))
            a = new * g + old * a
            b = old * b - new * g * y
            r = r_next
    share = tl.exp(tl.minimum(o0 - r, 0.0))
    tl.store(gp0_ptr + column, a * share, inside)
    tl.store(gq0_ptr + column, b * share, inside)
    tl.store(gw_ptr + column, gw, inside)
    tl.store(gu_ptr + column, gu, inside)


def _block(size: int) -> int:
    """Columns a program: few, so that short batches still fill the device."""
    return 32 if size < 1 << 15 else 128


def _work(dtype: torch.dtype) -> tl.dtype:
    return tl.float64 if dtype == torch.float64 else tl.float32


def forward(
    w: Tensor, u: Tensor, k: Tensor, v: Tensor, p0: Tensor, q0: Tensor, o0: Tensor, y: Tensor, p1: Tensor, q1: Tensor,
    o1: Tensor, borders: Tensor,
) -> None:  # fmt: skip
    """As `numba_cpu.forward`; k, v and y in any float dtype, the rest in the work dtype."""
    steps, size = k.shape
    block = _block(size)
    _forward_kernel[(triton.cdiv(size, block),)](
        w, u, k, v, p0, q0, o0, y, p1, q1, o1, borders, steps, size, w.numel(), borders.shape[0], _work(k.dtype), CHUNK,
        block, num_warps=max(1, block // 32),
    )  # fmt: skip


def backward(
    w: Tensor, u: Tensor, k: Tensor, v: Tensor, p0: Tensor, q0: Tensor, o0: Tensor, borders: Tensor, gy: Tensor,
    gp1: Tensor, gq1: Tensor, o1: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """As `numba_cpu.backward`."""
    steps, size = k.shape
    gk, gv = torch.empty_like(k), torch.empty_like(v)
    gp0, gq0, gw, gu = (torch.empty_like(p0) for _ in range(4))
    scratch = p0.new_empty((min(steps, CHUNK), 3, size))
    block = _block(size)
    _backward_kernel[(triton.cdiv(size, block),)](
        w, u, k, v, p0, q0, o0, borders, gy, gp1, gq1, o1, scratch, gk, gv, gp0, gq0, gw, gu, steps, size, w.numel(),
        _work(k.dtype), CHUNK, block, num_warps=max(1, block // 32),
    )  # fmt: skip
    return gk, gv, gp0, gq0, gw, gu
