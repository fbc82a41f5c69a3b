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

from ranvier.ops.direct_loops import exp, floor, larger, loop, rint, select, smaller
from ranvier.ops.leaky_scan.chunks import CHUNK
from ranvier.ops.leaky_scan.reference import LeakyDynamics
from ranvier.ops.memory import empty_like
from ranvier.ops.parallel import over_range
from ranvier.ops.step_rows import StepRows, even
from ranvier.ops.vector_math import exp_minus32

CASTS_IN_KERNEL = False  # Numba has no half precision: the op converts
WIDTH = 8192  # columns a block: rows of 32 kB in float32, since prefetchers start anew with every row, and 1 MB a chunk


# The inner loops, see `direct_loops`. `uniform`, `decay_input`, `soft`, `integer`, `surrogate`, `decay_grad` and
# `single` are constants of a kernel: an `if` over them chooses what is compiled.


@loop
def _copy(F, j, to, source, at, start):
    to[at + j] = source[start + j]


@loop
def _set(F, j, to, value):
    to[j] = value


def _charged(x, v, k, v_reset, decay_input):
    return v + k * (x - (v - v_reset)) if decay_input else v - k * (v - v_reset) + x


def _counted(u, half_even):
    return select(half_even, rint(u), floor(u + 0.5))


def _stepped(x, v, k, theta, v_reset, levels, a, half_even, decay_input, soft, integer):
    """The membrane after a step, and the spikes: their number, or whether there is one."""
    h = _charged(x, v, k, v_reset, decay_input)
    if integer:
        count = _counted(smaller(larger(h * (a / theta), 0), levels), half_even)
        return h - count * (theta / a) if soft else select(count > 0, v_reset, h), count
    fired = h - theta >= 0
    return select(fired, h - theta if soft else v_reset, h), fired


@loop
def _step(
    F, j, x, s, v, kk, th, at, k0, th0, v_reset, levels, a, b, half_even, uniform, decay_input, soft, integer
):  # fmt: skip
    k, theta = (k0, th0) if uniform else (kk[j], th[j])
    v[j], spikes = _stepped(x[at + j], v[j], k, theta, v_reset, levels, a, half_even, decay_input, soft, integer)
    s[at + j] = spikes * b if integer else select(spikes, F(1), F(0))


@loop
def _step_again(
    F, j, x, vs, kk, th, at, row, k0, th0, v_reset, levels, a, half_even, uniform, decay_input, soft, integer
):  # fmt: skip
    k, theta = (k0, th0) if uniform else (kk[j], th[j])
    after, _ = _stepped(x[at + j], vs[row + j], k, theta, v_reset, levels, a, half_even, decay_input, soft, integer)
    vs[row + WIDTH + j] = after


def _derivative(F, z, slope, surrogate, single):
    if surrogate == 0:
        e = exp_minus32(abs(slope * z)) if single else exp(-abs(slope * z))
        return slope * e / ((1 + e) * (1 + e))
    if surrogate == 1:
        q = F(math.pi / 2) * slope * z
        return slope * 0.5 / (1 + q * q)
    if surrogate == 2:
        return larger(F(0), slope - slope * slope * abs(z))
    if surrogate == 3:
        return select(abs(z) <= slope * 0.5, 1 / slope, 0)
    return F(1)


@loop
def _step_back(
    F, j, x, gs, gx, vs, gv, gkk, kk, th, at, row, k0, th0, v_reset, levels, a, b, half_even, attached, slope,
    uniform, decay_input, soft, integer, surrogate, decay_grad, single,
):  # fmt: skip
    k, theta = (k0, th0) if uniform else (kk[j], th[j])
    xj, v, g, later = x[at + j], vs[row + j], gs[at + j], gv[j]
    h = _charged(xj, v, k, v_reset, decay_input)
    if integer:
        u = h * (a / theta)
        count = _counted(smaller(larger(u, 0), levels), half_even)
        g = g * b
        if soft:
            g = g - attached * later * (theta / a)
            kept = later
        else:
            g = g + select(count <= 1, attached * later * (v_reset - h), 0)
            kept = select(count <= 0, later, 0)
        gh = select((u > 0) & (u < levels), g * (a / theta), 0) + kept
    else:
        z = h - theta
        d = _derivative(F, z, slope, surrogate, single)
        if soft:
            gh = (g - attached * later * theta) * d + later
        else:
            gh = (g + attached * later * (v_reset - h)) * d + select(z >= 0, 0, later)
    if decay_grad:
        drive = v_reset - v
        gkk[j] += gh * (xj + drive if decay_input else drive)
    gv[j] = gh - k * gh
    gx[at + j] = k * gh if decay_input else gh


@lru_cache(maxsize=64)
def _forward_kernel(uniform: bool, decay_input: bool, soft: bool, integer: bool) -> Callable[..., None]:
    # One function, with nothing but numbers in its closure: that is what Numba's disk cache can recognise.
    @numba.njit(nogil=True, cache=True, error_model="numpy", no_cfunc_wrapper=True)
    def forward(
        x, v0, k, theta, s, v_last, borders, first, active, saved, lo, hi, v_reset, levels, a, b, half_even
    ):  # fmt: skip
        v = np.empty(WIDTH, x.dtype)
        kk, th = (k, theta) if uniform else (np.empty(WIDTH, x.dtype), np.empty(WIDTH, x.dtype))
        k0, th0 = k[0], theta[0]
        for start in range(lo, hi, WIDTH):
            n = min(WIDTH, hi - start)
            _set(n, v, v0[0])
            if v0.size > 1:
                _copy(n, v, v0, 0, start)
            if not uniform:
                _set(n, kk, k0)
                _set(n, th, th0)
                if k.size > 1:
                    _copy(n, kk, k, 0, start)
                if theta.size > 1:
                    _copy(n, th, theta, 0, start)
            for t in range(first.size):
                m = min(n, active[t] - start)
                if m <= 0:
                    break
                _step(
                    m, x, s, v, kk, th, first[t] + start, k0, th0, v_reset, levels, a, b, half_even, uniform,
                    decay_input, soft, integer,
                )  # fmt: skip
                c = (t + 1) // CHUNK
                if c * CHUNK == t + 1 and c <= saved.size:
                    _copy(max(min(n, active[t + 1] - start), 0), borders, v, saved[c - 1] + start, 0)
            if v_last.size > 0:
                _copy(n, v_last, v, start, 0)

    return forward


@lru_cache(maxsize=64)
def _backward_kernel(
    uniform: bool, decay_input: bool, soft: bool, integer: bool, surrogate: int, decay_grad: bool, single: bool
) -> Callable[..., None]:
    @numba.njit(nogil=True, cache=True, error_model="numpy", no_cfunc_wrapper=True)
    def backward(
        x, v0, k, theta, borders, gs, gv_last, gx, gv0, gk, first, active, saved, lo, hi, v_reset, levels, a, b,
        half_even, attached, slope,
    ):  # fmt: skip
        steps = first.size
        vs = np.empty(min(steps, CHUNK) * WIDTH, x.dtype)
        gv = np.empty(WIDTH, x.dtype)
        kk, th = (k, theta) if uniform else (np.empty(WIDTH, x.dtype), np.empty(WIDTH, x.dtype))
        gkk = np.empty(WIDTH, x.dtype) if decay_grad else gk
        k0, th0, zero = k[0], theta[0], x.dtype.type(0)
        for start in range(lo, hi, WIDTH):
            n = min(WIDTH, hi - start)
            if not uniform:
                _set(n, kk, k0)
                _set(n, th, th0)
                if k.size > 1:
                    _copy(n, kk, k, 0, start)
                if theta.size > 1:
                    _copy(n, th, theta, 0, start)
            if decay_grad:
                _set(n, gkk, zero)
            _set(n, gv, zero)
            if gv_last.size > 0:
                _copy(n, gv, gv_last, 0, start)
            for c in range((steps - 1) // CHUNK, -1, -1):
                begin = c * CHUNK
                live = min(n, active[begin] - start)
                if live <= 0:
                    continue
                if c > 0:
                    _copy(live, vs, borders, 0, saved[c - 1] + start)
                elif v0.size > 1:
                    _copy(live, vs, v0, 0, start)
                else:
                    _set(live, vs, v0[0])
                rows = min(CHUNK, steps - begin)
                for t in range(rows - 1):
                    _step_again(
                        max(min(n, active[begin + t] - start), 0), x, vs, kk, th, first[begin + t] + start, t * WIDTH,
                        k0, th0, v_reset, levels, a, half_even, uniform, decay_input, soft, integer,
                    )  # fmt: skip
                for t in range(rows - 1, -1, -1):
                    _step_back(
                        max(min(n, active[begin + t] - start), 0), x, gs, gx, vs, gv, gkk, kk, th,
                        first[begin + t] + start, t * WIDTH, k0, th0, v_reset, levels, a, b, half_even, attached,
                        slope, uniform, decay_input, soft, integer, surrogate, decay_grad, single,
                    )  # fmt: skip
            if gv0.size > 0:
                _copy(n, gv0, gv, start, 0)
            if decay_grad:
                _copy(n, gk, gkk, start, 0)

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
