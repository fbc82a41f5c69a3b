"""CPU kernels of the leaky scan.

Columns (neurons) are processed in blocks and time in chunks, so that the membranes of a chunk stay in the
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

from ranvier.ops.array_access import load, store
from ranvier.ops.leaky_scan.chunks import CHUNK
from ranvier.ops.leaky_scan.reference import LeakyDynamics
from ranvier.ops.memory import empty_like
from ranvier.ops.parallel import over_range
from ranvier.ops.step_rows import StepRows, even
from ranvier.ops.vector_math import exp_minus32, select

CASTS_IN_KERNEL = False  # Numba has no half precision: the op converts
WIDTH = 8192  # columns a block: rows of 32 kB in float32, since prefetchers start anew with every row, and 1 MB a chunk


# LLVM vectorises the inner loops only if their indices are unsigned (numba adds a wrap-around test to signed ones), no
# load hides in the arm of a conditional, and at most eight pairs of arrays have to be tested for overlap: the backward
# loop has more, so its accesses say which array they mean. All of it was measured.


@lru_cache(maxsize=64)
def _forward_kernel(uniform: bool, decay_input: bool, soft: bool, integer: bool) -> Callable[..., None]:
    @numba.njit(nogil=True, cache=True, error_model="numpy")
    def forward(
        x, v0, k, theta, s, v_last, borders, first, active, saved, lo, hi, v_reset, levels, a, b, half_even
    ):  # fmt: skip
        width = WIDTH
        steps = first.size
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
                m = min(n, active[t] - start)
                if m <= 0:
                    break
                at = first[t] + start
                row = x[at : at + m]
                out = s[at : at + m]
                for j in range(m):
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
                if (t + 1) % CHUNK == 0 and (t + 1) // CHUNK <= saved.size:
                    kept = max(min(n, active[t + 1] - start), 0)
                    to = saved[(t + 1) // CHUNK - 1] + start
                    borders[to : to + kept] = v[:kept]
            if v_last.size > 0:
                v_last[start : start + n] = v[:n]

    return forward


@numba.njit(nogil=True, cache=True)
def _fill(block, source, start, n):
    for j in range(n):
        block[j] = source[start + j] if source.size > 1 else source[0]


# Numbers of the arrays of the backward loop, see `array_access`.
_X, _GS, _GX, _V, _GV, _GK, _K, _TH, _ALL = range(9)


@lru_cache(maxsize=64)
def _backward_kernel(
    uniform: bool, decay_input: bool, soft: bool, integer: bool, surrogate: int, decay_grad: bool, single: bool
) -> Callable[..., None]:
    # One function, with nothing but numbers in its closure: that is what Numba's disk cache can recognise.
    @numba.njit(nogil=True, cache=True, error_model="numpy")
    def backward(
        x, v0, k, theta, borders, gs, gv_last, gx, gv0, gk, first, active, saved, lo, hi, v_reset, levels, a, b,
        half_even, attached, slope,
    ):  # fmt: skip
        steps, width = first.size, np.uint64(WIDTH)
        vs = np.empty(min(steps, CHUNK) * WIDTH, x.dtype)
        kk = np.empty(1 if uniform else WIDTH, x.dtype)
        th = np.empty(1 if uniform else WIDTH, x.dtype)
        gv = np.empty(WIDTH, x.dtype)
        gkk = np.empty(WIDTH, x.dtype)
        one, zero, half = x.dtype.type(1), x.dtype.type(0), x.dtype.type(0.5)
        pi_half = x.dtype.type(math.pi / 2)
        for start in range(lo, hi, WIDTH):
            n = min(WIDTH, hi - start)
            if uniform:
                kk[0], th[0] = k[0], theta[0]
            else:
                _fill(kk, k, start, n)
                _fill(th, theta, start, n)
            k0, th0 = kk[0], th[0]
            gkk[:n] = 0
            gv[:n] = 0
            if gv_last.size > 0:
                gv[:n] = gv_last[start : start + n]
            for c in range((steps - 1) // CHUNK, -1, -1):
                begin = c * CHUNK
                live = min(n, active[begin] - start)
                if live <= 0:
                    continue
                if c == 0:
                    _fill(vs, v0, start, live)
                else:
                    kept = saved[c - 1] + start
                    vs[:live] = borders[kept : kept + live]
                rows = min(CHUNK, steps - begin)
                for t in range(rows - 1):
                    m = np.uint64(max(min(n, active[begin + t] - start), 0))
                    at = np.uint64(first[begin + t] + start)
                    row = np.uint64(t) * width
                    for j in range(m):
                        kj = k0 if uniform else load(kk, j, _K, _ALL)
                        thj = th0 if uniform else load(th, j, _TH, _ALL)
                        v = load(vs, row + j, _V, _ALL)
                        if decay_input:
                            h = v + kj * (load(x, at + j, _X, _ALL) - (v - v_reset))
                        else:
                            h = v - kj * (v - v_reset) + load(x, at + j, _X, _ALL)
                        if integer:
                            u = min(max(h * (a / thj), zero), levels)
                            count = select(half_even, np.rint(u), np.floor(u + half))
                            after = h - count * (thj / a) if soft else select(count > zero, v_reset, h)
                        else:
                            after = select(h - thj >= zero, h - thj if soft else v_reset, h)
                        store(vs, row + width + j, after, _V, _ALL)
                for t in range(rows - 1, -1, -1):
                    m = np.uint64(max(min(n, active[begin + t] - start), 0))
                    at = np.uint64(first[begin + t] + start)
                    row = np.uint64(t) * width
                    for j in range(m):
                        kj = k0 if uniform else load(kk, j, _K, _ALL)
                        thj = th0 if uniform else load(th, j, _TH, _ALL)
                        v = load(vs, row + j, _V, _ALL)
                        xj = load(x, at + j, _X, _ALL)
                        g = load(gs, at + j, _GS, _ALL)
                        gvj = load(gv, j, _GV, _ALL)
                        h = v + kj * (xj - (v - v_reset)) if decay_input else v - kj * (v - v_reset) + xj
                        if integer:
                            u = h * (a / thj)
                            clamped = min(max(u, zero), levels)
                            count = select(half_even, np.rint(clamped), np.floor(clamped + half))
                            g = g * b
                            if soft:
                                g = g - attached * gvj * (thj / a)
                                kept = gvj
                            else:
                                g = g + select(count <= one, attached * gvj * (v_reset - h), zero)
                                kept = select(count <= zero, gvj, zero)
                            gh = select((u > zero) & (u < levels), g * (a / thj), zero) + kept
                        else:
                            z = h - thj
                            if surrogate == 0:
                                e = exp_minus32(abs(slope * z)) if single else math.exp(-abs(slope * z))
                                d = slope * e / ((one + e) * (one + e))
                            elif surrogate == 1:
                                q = pi_half * slope * z
                                d = slope * half / (one + q * q)
                            elif surrogate == 2:
                                d = max(zero, slope - slope * slope * abs(z))
                            elif surrogate == 3:
                                d = select(abs(z) <= slope * half, one / slope, zero)
                            else:
                                d = one
                            if soft:
                                gh = (g - attached * gvj * thj) * d + gvj
                            else:
                                gh = (g + attached * gvj * (v_reset - h)) * d + select(z >= zero, zero, gvj)
                        if decay_grad:
                            drive = v_reset - v
                            if decay_input:
                                drive = xj + drive
                            store(gkk, j, load(gkk, j, _GK, _ALL) + gh * drive, _GK, _ALL)
                        store(gv, j, gh - kj * gh, _GV, _ALL)
                        store(gx, at + j, kj * gh if decay_input else gh, _GX, _ALL)
            if gv0.size > 0:
                gv0[start : start + n] = gv[:n]
            if decay_grad:
                gk[start : start + n] = gkk[:n]

    return backward


def _scalars(d: LeakyDynamics, dtype: Any) -> tuple[Any, ...]:
    return dtype(d.v_reset), dtype(d.levels), dtype(d.input_scale), dtype(d.output_scale), d.half_even


def forward(
    x: Tensor, v0: Tensor, k: Tensor, theta: Tensor, spikes: Tensor, v_last: Tensor, borders: Tensor, d: LeakyDynamics,
    rows: StepRows | None = None,
) -> None:  # fmt: skip
    """Fill `spikes` `[T, M]`, `v_last` (`[M]`, or empty when not wanted) and `borders` (`[chunk_borders(T), M]`, or
    `[0, M]` when no backward pass will follow). All inputs contiguous float32/64 on the CPU; `v0`, `k`, `theta` have
    one element or M. With `rows`, `x` and `spikes` are flat and lie as it says, and `borders` has `rows.kept` elements.
    """
    kernel = _forward_kernel(k.numel() == theta.numel() == 1, d.decay_input, d.soft_reset, d.levels > 0)
    rows = even(*x.shape, borders.numel() > 0) if rows is None else rows
    arrays = [t.view(-1).numpy() for t in (x, v0, k, theta, spikes, v_last, borders)]
    scalars = _scalars(d, arrays[0].dtype.type)
    over_range(lambda lo, hi: kernel(*arrays, rows.first, rows.active, rows.saved, lo, hi, *scalars), rows.active)


def backward(
    x: Tensor, v0: Tensor, k: Tensor, theta: Tensor, borders: Tensor, gs: Tensor, gv_last: Tensor,
    want_v0: bool, want_k: bool, d: LeakyDynamics, rows: StepRows | None = None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients `(gx like x, gv0 [M] or empty, gk [M] or empty)`; arguments as in `forward`."""
    rows = even(*x.shape) if rows is None else rows
    size = int(rows.active[0])
    gx = empty_like(x)
    gv0 = x.new_empty(size if want_v0 else 0)
    gk = x.new_empty(size if want_k else 0)
    code = d.surrogate.code if d.levels == 0 else -1
    assert code is not None, "surrogates without kernel support run through the reference"
    kernel = _backward_kernel(
        k.numel() == theta.numel() == 1, d.decay_input, d.soft_reset, d.levels > 0, code, want_k,
        x.dtype == torch.float32,
    )  # fmt: skip
    arrays = [t.view(-1).numpy() for t in (x, v0, k, theta, borders, gs, gv_last, gx, gv0, gk)]
    dtype = arrays[0].dtype.type
    scalars = (*_scalars(d, dtype), dtype(not d.detach_reset), dtype(d.surrogate.slope))
    over_range(lambda lo, hi: kernel(*arrays, rows.first, rows.active, rows.saved, lo, hi, *scalars), rows.active)
    return gx, gv0, gk
