"""CUDA kernels of the leaky scan, in Triton: one program a block of columns, time as a loop inside.

Forward reads the input and writes the spikes, nothing else. Backward first runs the recurrence forward into the
buffer that will hold the input gradient (a float32 scratch buffer for half-precision input), then walks back through
it, so that no membrane is ever stored between the two passes.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ranvier.ops.leaky_scan.reference import LeakyDynamics

CASTS_IN_KERNEL = True
BLOCK = 256


@triton.jit
def _charge(x, v, k, v_reset: tl.constexpr, DECAY_INPUT: tl.constexpr):
    if DECAY_INPUT:
        return v + k * (x - (v - v_reset))
    else:
        return v - k * (v - v_reset) + x


@triton.jit
def _count(u, levels: tl.constexpr, HALF_EVEN: tl.constexpr):
    u = tl.minimum(tl.maximum(u, 0.0), levels)
    n = tl.floor(u + 0.5)
    if HALF_EVEN:
        tie_to_odd = (n == u + 0.5) & (n - 2 * tl.floor(n * 0.5) == 1)
        n = tl.where(tie_to_odd, n - 1, n)
    return n


@triton.jit
def _reset(h, th, v_reset: tl.constexpr, levels: tl.constexpr, a: tl.constexpr, SOFT: tl.constexpr,
           HALF_EVEN: tl.constexpr):  # fmt: skip
    """The output in units of one spike, and the membrane after the reset."""
    if levels > 0:
        n = _count(h * (a / th), levels, HALF_EVEN)
        v = h - n * (th / a) if SOFT else tl.where(n > 0, v_reset, h)
    else:
        n = tl.where(h - th >= 0, 1.0, 0.0).to(h.dtype)
        v = h - n * th if SOFT else tl.where(n > 0, v_reset, h)
    return n, v.to(h.dtype)


@triton.jit
def _slope_at(z, slope: tl.constexpr, SURROGATE: tl.constexpr):
    if SURROGATE == 0:
        e = tl.exp(-tl.abs(slope * z))
        return slope * e / ((1 + e) * (1 + e))
    elif SURROGATE == 1:
        q = 1.5707963267948966 * slope * z
        return slope * 0.5 / (1 + q * q)
    elif SURROGATE == 2:
        return tl.maximum(slope - slope * slope * tl.abs(z), 0.0)
    elif SURROGATE == 3:
        return tl.where(tl.abs(z) <= slope * 0.5, tl.zeros_like(z) + 1.0 / slope, 0.0)
    else:
        return tl.zeros_like(z) + 1.0


@triton.jit
def _forward_kernel(
    x_ptr, v0_ptr, k_ptr, th_ptr, s_ptr, last_ptr, steps, size, V0: tl.constexpr, K: tl.constexpr, TH: tl.constexpr,
    KEEP: tl.constexpr, WORK: tl.constexpr, DECAY_INPUT: tl.constexpr, SOFT: tl.constexpr, v_reset: tl.constexpr,
    levels: tl.constexpr, a: tl.constexpr, b: tl.constexpr, HALF_EVEN: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    column = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = column < size
    v = tl.load(v0_ptr + column * V0, inside).to(WORK)
    k = tl.load(k_ptr + column * K, inside).to(WORK)
    th = tl.load(th_ptr + column * TH, inside, other=1.0).to(WORK)
    at = column
    for _ in range(steps):
        x = tl.load(x_ptr + at, inside).to(WORK)
        n, v = _reset(_charge(x, v, k, v_reset, DECAY_INPUT), th, v_reset, levels, a, SOFT, HALF_EVEN)
        tl.store(s_ptr + at, (n * b).to(s_ptr.dtype.element_ty), inside)
        at += size
    if KEEP:
        tl.store(last_ptr + column, v, inside)


@triton.jit
def _backward_kernel(
    x_ptr, v0_ptr, k_ptr, th_ptr, gs_ptr, glast_ptr, h_ptr, gx_ptr, gv0_ptr, gk_ptr, steps, size, V0: tl.constexpr,
    K: tl.constexpr, TH: tl.constexpr, GLAST: tl.constexpr, WANT_V0: tl.constexpr, WANT_K: tl.constexpr,
    WORK: tl.constexpr, DECAY_INPUT: tl.constexpr, SOFT: tl.constexpr, v_reset: tl.constexpr, ATTACHED: tl.constexpr,
    SURROGATE: tl.constexpr, slope: tl.constexpr, levels: tl.constexpr, a: tl.constexpr, b: tl.constexpr,
    HALF_EVEN: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    column = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = column < size
    start = tl.load(v0_ptr + column * V0, inside).to(WORK)
    k = tl.load(k_ptr + column * K, inside).to(WORK)
    th = tl.load(th_ptr + column * TH, inside, other=1.0).to(WORK)
    v = start
    at = column
    for _ in range(steps):
        h = _charge(tl.load(x_ptr + at, inside).to(WORK), v, k, v_reset, DECAY_INPUT)
        tl.store(h_ptr + at, h, inside)
        _, v = _reset(h, th, v_reset, levels, a, SOFT, HALF_EVEN)
        at += size
    gv = tl.load(glast_ptr + column, inside).to(WORK) if GLAST else tl.zeros_like(start)
    gk = tl.zeros_like(start)
    at -= size
    h = tl.load(h_ptr + at, inside)
    for i in range(steps):
        n, _ = _reset(h, th, v_reset, levels, a, SOFT, HALF_EVEN)
        g = tl.load(gs_ptr + at, inside).to(WORK)
        if levels > 0:
            u = h * (a / th)
            g = g * b
            if ATTACHED:
                g += -gv * (th / a) if SOFT else tl.where(n <= 1, gv * (v_reset - h), 0.0)
            gh = tl.where((u > 0) & (u < levels), g * (a / th), 0.0)
        else:
            if ATTACHED:
                g += -gv * th if SOFT else gv * (v_reset - h)
            gh = g * _slope_at(h - th, slope, SURROGATE)
        gh += gv if SOFT else tl.where(n > 0, 0.0, gv)
        before = h
        if i < steps - 1:
            before = tl.load(h_ptr + at - size, inside)
        if WANT_K:
            _, prev = _reset(before, th, v_reset, levels, a, SOFT, HALF_EVEN)
            prev = tl.where(i < steps - 1, prev, start)
            if DECAY_INPUT:
                gk += gh * (tl.load(x_ptr + at, inside).to(WORK) - (prev - v_reset))
            else:
                gk -= gh * (prev - v_reset)
        gv = gh - k * gh
        gx = k * gh if DECAY_INPUT else gh
        tl.store(gx_ptr + at, gx.to(gx_ptr.dtype.element_ty), inside)
        h = before
        at -= size
    if WANT_V0:
        tl.store(gv0_ptr + column, gv, inside)
    if WANT_K:
        tl.store(gk_ptr + column, gk, inside)


def _work(dtype: torch.dtype) -> tl.dtype:
    return tl.float64 if dtype == torch.float64 else tl.float32


def _stride(t: Tensor) -> int:
    return 0 if t.numel() == 1 else 1


def forward(
    x: Tensor, v0: Tensor, k: Tensor, theta: Tensor, spikes: Tensor, v_last: Tensor, borders: Tensor, d: LeakyDynamics
) -> None:
    """Fill `spikes` `[T, M]` (any float dtype) and `v_last` (`[M]`, or empty when not wanted); `borders` is unused."""
    steps, size = x.shape
    _forward_kernel[(triton.cdiv(size, BLOCK),)](
        x, v0, k, theta, spikes, v_last, steps, size, _stride(v0), _stride(k), _stride(theta), v_last.numel() > 0,
        _work(x.dtype), d.decay_input, d.soft_reset, d.v_reset, d.levels, d.input_scale, d.output_scale, d.half_even,
        BLOCK,
    )  # fmt: skip


def backward(
    x: Tensor, v0: Tensor, k: Tensor, theta: Tensor, borders: Tensor, gs: Tensor, gv_last: Tensor,
    want_v0: bool, want_k: bool, d: LeakyDynamics,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients `(gx [T, M] in the dtype of x, gv0 [M] or empty, gk [M] or empty)`; arguments as in `forward`."""
    steps, size = x.shape
    gx = torch.empty_like(x)
    membranes = gx if x.dtype in (torch.float32, torch.float64) else torch.empty_like(x, dtype=torch.float32)
    gv0 = v0.new_empty(size if want_v0 else 0)
    gk = v0.new_empty(size if want_k else 0)
    _backward_kernel[(triton.cdiv(size, BLOCK),)](
        x, v0, k, theta, gs, gv_last, membranes, gx, gv0, gk, steps, size, _stride(v0), _stride(k), _stride(theta),
        gv_last.numel() > 0, want_v0, want_k, _work(x.dtype), d.decay_input, d.soft_reset, d.v_reset,
        not d.detach_reset, d.surrogate.code, d.surrogate.slope, d.levels, d.input_scale, d.output_scale, d.half_even,
        BLOCK,
    )  # fmt: skip
    return gx, gv0, gk
