"""CPU kernels of the leaky scan.

Columns (neurons) are processed in blocks and time in chunks, so that the membranes of a chunk stay in the second-level
cache. Forward leaves the membrane at every chunk border (4/32 byte an element and step in float32, nothing up to 32
steps); backward recomputes the membranes of a chunk from there and walks back through it, so that main memory sees
three streams: input and upstream gradient in, input gradient out. Kernels are specialised on the discrete options and
cached on disk.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from ranvier.ops.leaky_scan.chunks import CHUNK
from ranvier.ops.leaky_scan.reference import LeakyDynamics
from ranvier.ops.memory import on_huge_pages
from ranvier.ops.parallel import over_range
from ranvier.ops.vector_math import exp_minus32

CASTS_IN_KERNEL = False  # Numba has no half precision: the op converts
WIDTH = 1024  # columns a block: with a chunk of float32 membranes 128 kB, and whole memory pages a row


# LLVM vectorises the inner loops only if their indices are unsigned (numba adds a wrap-around test to signed ones), no
# load hides in the arm of a conditional, and a loop touches so few arrays that at most eight pairs have to be tested
# for overlap: hence several short loops a step. All of it was measured.


@lru_cache(maxsize=64)
def _forward_kernel(uniform: bool, decay_input: bool, soft: bool, integer: bool) -> Callable[..., None]:
    @numba.njit(nogil=True, cache=True, error_model="numpy")
    def forward(x, v0, k, theta, s, v_last, borders, lo, hi, v_reset, levels, a, b, half_even):
        width = WIDTH
        steps = x.shape[0]
        v = np.empty(width, x.dtype)
        kk = np.empty(1 if uniform else width, x.dtype)
        th = np.empty(1 if uniform else width, x.dtype)
        one, zero, half = x.dtype.type(1), x.dtype.type(0), x.dtype.type(0.5)
        for start in range(lo, hi, width):
            n = min(width, hi - start)
            _fill(v, v0, start, n)
            if uniform:
                kk[0], th[0] = k[0], theta[0]
            else:
                _fill(kk, k, start, n)
                _fill(th, theta, start, n)
            k0, th0 = kk[0], th[0]
            for t in range(steps):
                row = x[t, start : start + n]
                out = s[t, start : start + n]
                for j in range(n):
                    kj = k0 if uniform else kk[j]
                    thj = th0 if uniform else th[j]
                    if decay_input:
                        h = v[j] + kj * (row[j] - (v[j] - v_reset))
                    else:
                        h = v[j] - kj * (v[j] - v_reset) + row[j]
                    if integer:
                        u = min(max(h * (a / thj), zero), levels)
                        count = np.rint(u) if half_even else np.floor(u + half)
                        out[j] = count * b
                        if soft:
                            v[j] = h - count * (thj / a)
                        else:
                            v[j] = v_reset if count > zero else h
                    else:
                        fired = h - thj >= zero
                        out[j] = one if fired else zero
                        if soft:
                            v[j] = h - thj if fired else h
                        else:
                            v[j] = v_reset if fired else h
                if (t + 1) % CHUNK == 0 and (t + 1) // CHUNK <= borders.shape[0]:
                    borders[(t + 1) // CHUNK - 1, start : start + n] = v[:n]
            if v_last.size > 0:
                v_last[start : start + n] = v[:n]

    return forward


@numba.njit(nogil=True, cache=True)
def _fill(block, source, start, n):
    for j in range(n):
        block[j] = source[start + j] if source.size > 1 else source[0]


@lru_cache(maxsize=64)
def _backward_kernel(
    uniform: bool, decay_input: bool, soft: bool, integer: bool, surrogate: int, decay_grad: bool, single: bool
) -> Callable[..., None]:
    # One function, with nothing but numbers in its closure: that is what Numba's disk cache can recognise.
    @numba.njit(nogil=True, cache=True, error_model="numpy")
    def backward(
        x, v0, k, theta, borders, gs, gv_last, gx, gv0, gk, lo, hi, v_reset, levels, a, b, half_even, attached, slope
    ):  # fmt: skip
        steps, width = x.shape[0], WIDTH
        chunk = min(steps, CHUNK)
        hs = np.empty((chunk, width), x.dtype)
        vs = np.empty((chunk, width) if decay_grad else (0, 0), x.dtype)
        v = np.empty(width, x.dtype)
        kk = np.empty(1 if uniform else width, x.dtype)
        th = np.empty(1 if uniform else width, x.dtype)
        gv = np.empty(width, x.dtype)
        gkk = np.empty(width, x.dtype)
        gh = np.empty(width, x.dtype)
        one, zero, half = x.dtype.type(1), x.dtype.type(0), x.dtype.type(0.5)
        pi_half = x.dtype.type(math.pi / 2)
        for start in range(lo, hi, width):
            n = np.uint64(min(width, hi - start))
            base = np.uint64(start)
            if uniform:
                kk[0], th[0] = k[0], theta[0]
            else:
                _fill(kk, k, start, n)
                _fill(th, theta, start, n)
            k0, th0 = kk[0], th[0]
            gkk[:] = 0
            gv[:] = 0
            if gv_last.size > 0:
                gv[:n] = gv_last[start : start + n]
            for c in range((steps - 1) // CHUNK, -1, -1):
                if c == 0:
                    _fill(v, v0, start, n)
                else:
                    v[:n] = borders[c - 1, start : start + n]
                first = np.uint64(c * CHUNK)
                rows = np.uint64(min(CHUNK, steps - c * CHUNK))
                for t in range(rows):
                    for j in range(n):
                        kj = k0 if uniform else kk[j]
                        thj = th0 if uniform else th[j]
                        vj = v[j]
                        if decay_grad:
                            vs[t, j] = vj
                        if decay_input:
                            h = vj + kj * (x[first + t, base + j] - (vj - v_reset))
                        else:
                            h = vj - kj * (vj - v_reset) + x[first + t, base + j]
                        hs[t, j] = h
                        if integer:
                            u = min(max(h * (a / thj), zero), levels)
                            count = np.rint(u) if half_even else np.floor(u + half)
                            if soft:
                                v[j] = h - count * (thj / a)
                            else:
                                v[j] = v_reset if count > zero else h
                        elif soft:
                            v[j] = h - thj if h - thj >= zero else h
                        else:
                            v[j] = v_reset if h - thj >= zero else h
                for i in range(rows):
                    t = rows - np.uint64(1) - i
                    if not integer:
                        for j in range(n):
                            z = hs[t, j] - (th0 if uniform else th[j])
                            if surrogate == 0:
                                if single:
                                    e = exp_minus32(abs(slope * z))
                                else:
                                    e = math.exp(-abs(slope * z))
                                gh[j] = slope * e / ((one + e) * (one + e))
                            elif surrogate == 1:
                                q = pi_half * slope * z
                                gh[j] = slope * half / (one + q * q)
                            elif surrogate == 2:
                                gh[j] = max(zero, slope - slope * slope * abs(z))
                            elif surrogate == 3:
                                gh[j] = one / slope if abs(z) <= slope * half else zero
                            else:
                                gh[j] = one
                    for j in range(n):
                        thj = th0 if uniform else th[j]
                        h = hs[t, j]
                        g = gs[first + t, base + j]
                        gvj = gv[j]
                        if integer:
                            u = h * (a / thj)
                            clamped = min(max(u, zero), levels)
                            count = np.rint(clamped) if half_even else np.floor(clamped + half)
                            g = g * b
                            if soft:
                                g = g - attached * gvj * (thj / a)
                                kept = gvj
                            else:
                                g = g + (attached * gvj * (v_reset - h) if count <= one else zero)
                                kept = gvj if count <= zero else zero
                            gh[j] = (g * (a / thj) if (u > zero and u < levels) else zero) + kept
                        elif soft:
                            gh[j] = (g - attached * gvj * thj) * gh[j] + gvj
                        else:
                            g = g + attached * gvj * (v_reset - h)
                            gh[j] = g * gh[j] + (gvj if h - thj < zero else zero)
                    for j in range(n):
                        kj = k0 if uniform else kk[j]
                        ghj = gh[j]
                        gv[j] = ghj - kj * ghj
                        gx[first + t, base + j] = kj * ghj if decay_input else ghj
                    if decay_grad:
                        for j in range(n):
                            drive = v_reset - vs[t, j]
                            if decay_input:
                                drive = x[first + t, base + j] + drive
                            gkk[j] += gh[j] * drive
            if gv0.size > 0:
                gv0[start : start + n] = gv[:n]
            if decay_grad:
                gk[start : start + n] = gkk[:n]

    return backward


def _scalars(d: LeakyDynamics, dtype: Any) -> tuple[Any, ...]:
    return dtype(d.v_reset), dtype(d.levels), dtype(d.input_scale), dtype(d.output_scale), d.half_even


def forward(
    x: Tensor, v0: Tensor, k: Tensor, theta: Tensor, spikes: Tensor, v_last: Tensor, borders: Tensor, d: LeakyDynamics
) -> None:
    """Fill `spikes` `[T, M]`, `v_last` (`[M]`, or empty when not wanted) and `borders` (`[chunk_borders(T), M]`, or
    `[0, M]` when no backward pass will follow). All inputs contiguous float32/64 on the CPU; `v0`, `k`, `theta` have
    one element or M."""
    kernel = _forward_kernel(k.numel() == theta.numel() == 1, d.decay_input, d.soft_reset, d.levels > 0)
    arrays = [t.numpy() for t in (x, v0, k, theta, spikes, v_last, borders)]
    scalars = _scalars(d, arrays[0].dtype.type)
    steps, size = x.shape
    over_range(lambda lo, hi: kernel(*arrays, lo, hi, *scalars), size, steps * size)


def backward(
    x: Tensor, v0: Tensor, k: Tensor, theta: Tensor, borders: Tensor, gs: Tensor, gv_last: Tensor,
    want_v0: bool, want_k: bool, d: LeakyDynamics,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients `(gx [T, M], gv0 [M] or empty, gk [M] or empty)`; arguments as in `forward`."""
    steps, size = x.shape
    gx = on_huge_pages(torch.empty_like(x))
    gv0 = x.new_empty(size if want_v0 else 0)
    gk = x.new_empty(size if want_k else 0)
    code = d.surrogate.code if d.levels == 0 else -1
    assert code is not None, "surrogates without kernel support run through the reference"
    kernel = _backward_kernel(
        k.numel() == theta.numel() == 1, d.decay_input, d.soft_reset, d.levels > 0, code, want_k,
        x.dtype == torch.float32,
    )  # fmt: skip
    arrays = [t.numpy() for t in (x, v0, k, theta, borders, gs, gv_last, gx, gv0, gk)]
    dtype = arrays[0].dtype.type
    scalars = (*_scalars(d, dtype), dtype(not d.detach_reset), dtype(d.surrogate.slope))
    over_range(lambda lo, hi: kernel(*arrays, lo, hi, *scalars), size, steps * size)
    return gx, gv0, gk
