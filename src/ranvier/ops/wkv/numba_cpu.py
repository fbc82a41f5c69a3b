"""CPU kernels of WKV: columns (sequence and channel) in blocks, vectorised, time as a loop inside.

Of the two exponentials of a maximum one is always 1, so that a token costs two exponentials forward and five backward.
Forward keeps the state at every 32nd token; backward recomputes the states of a chunk from there, and carries the
adjoint sums with a running exponent of their own, like the sums themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numba
import numpy as np
import torch
from torch import Tensor

from ranvier.ops.array_access import load, select, store
from ranvier.ops.memory import empty_like
from ranvier.ops.parallel import over_range
from ranvier.ops.vector_math import kernel_exp_minus32
from ranvier.ops.wkv.chunks import CHUNK

CASTS_IN_KERNEL = False  # Numba has no half precision: the op converts
WIDTH = 256  # columns a block: the states of a chunk take 96 kB in float32

_K, _V, _Y, _W, _U, _P, _Q, _O, _FORWARD = range(9)


@lru_cache(maxsize=2)
def _forward_kernel(single: bool) -> Callable[..., None]:
    @numba.njit(nogil=True, cache=True, error_model="numpy")
    def forward(w, u, k, v, p0, q0, o0, y, p1, q1, o1, borders, size, lo, hi):
        steps, channels = k.size // size, w.size
        ww, uu = np.empty(WIDTH, k.dtype), np.empty(WIDTH, k.dtype)
        pp, qq, oo = np.empty(WIDTH, k.dtype), np.empty(WIDTH, k.dtype), np.empty(WIDTH, k.dtype)
        one = k.dtype.type(1)
        for start in range(lo, hi, WIDTH):
            n = np.uint64(min(WIDTH, hi - start))
            for i in range(min(WIDTH, hi - start)):
                ww[i], uu[i] = w[(start + i) % channels], u[(start + i) % channels]
                pp[i], qq[i], oo[i] = p0[start + i], q0[start + i], o0[start + i]
            for t in range(steps):
                at = np.uint64(t) * np.uint64(size) + np.uint64(start)
                for j in range(n):
                    kj = load(k, at + j, _K, _FORWARD)
                    vj = load(v, at + j, _V, _FORWARD)
                    p = load(pp, j, _P, _FORWARD)
                    q = load(qq, j, _Q, _FORWARD)
                    o = load(oo, j, _O, _FORWARD)
                    d = o - (load(uu, j, _U, _FORWARD) + kj)
                    e = kernel_exp_minus32(abs(d)) if single else math.exp(-abs(d))
                    past, now = select(d >= 0, one, e), select(d >= 0, e, one)
                    store(y, at + j, (past * p + now * vj) / (past * q + now), _Y, _FORWARD)
                    decayed = o + load(ww, j, _W, _FORWARD)
                    d = decayed - kj
                    e = kernel_exp_minus32(abs(d)) if single else math.exp(-abs(d))
                    past, now = select(d >= 0, one, e), select(d >= 0, e, one)
                    store(pp, j, past * p + now * vj, _P, _FORWARD)
                    store(qq, j, past * q + now, _Q, _FORWARD)
                    store(oo, j, select(d >= 0, decayed, kj), _O, _FORWARD)
                if (t + 1) % CHUNK == 0 and (t + 1) // CHUNK <= borders.shape[0]:
                    row = (t + 1) // CHUNK - 1
                    for i in range(min(WIDTH, hi - start)):
                        borders[row, 0, start + i] = pp[i]
                        borders[row, 1, start + i] = qq[i]
                        borders[row, 2, start + i] = oo[i]
            for i in range(min(WIDTH, hi - start)):
                p1[start + i], q1[start + i], o1[start + i] = pp[i], qq[i], oo[i]

    return forward


_GY, _GK, _GV, _A, _B, _R, _GW, _GU, _YB, _BACKWARD = range(8, 18)


@lru_cache(maxsize=2)
def _backward_kernel(single: bool) -> Callable[..., None]:
    @numba.njit(nogil=True, cache=True, error_model="numpy")
    def backward(w, u, k, v, p0, q0, o0, borders, gy, gp1, gq1, o1, gk, gv, gp0, gq0, gw, gu, size, lo, hi):
        steps, channels, width = k.size // size, w.size, np.uint64(WIDTH)
        rows_kept = min(steps, CHUNK)
        ww, uu = np.empty(WIDTH, k.dtype), np.empty(WIDTH, k.dtype)
        aa, bb, rr = np.empty(WIDTH, k.dtype), np.empty(WIDTH, k.dtype), np.empty(WIDTH, k.dtype)
        gww, guu = np.empty(WIDTH, k.dtype), np.empty(WIDTH, k.dtype)
        pp, qq = np.empty(rows_kept * WIDTH, k.dtype), np.empty(rows_kept * WIDTH, k.dtype)
        oo = np.empty(rows_kept * WIDTH, k.dtype)
        one = k.dtype.type(1)
        for start in range(lo, hi, WIDTH):
            count = min(WIDTH, hi - start)
            n = np.uint64(count)
            base = np.uint64(start)
            for i in range(count):
                ww[i], uu[i] = w[(start + i) % channels], u[(start + i) % channels]
                aa[i], bb[i], rr[i] = gp1[start + i], gq1[start + i], o1[start + i]
            gww[:] = 0
            guu[:] = 0
            for c in range((steps - 1) // CHUNK, -1, -1):
                for i in range(count):
                    if c == 0:
                        pp[i], qq[i], oo[i] = p0[start + i], q0[start + i], o0[start + i]
                    else:
                        pp[i] = borders[c - 1, 0, start + i]
                        qq[i] = borders[c - 1, 1, start + i]
                        oo[i] = borders[c - 1, 2, start + i]
                first = np.uint64(c * CHUNK)
                rows = np.uint64(min(CHUNK, steps - c * CHUNK))
                for t in range(rows - np.uint64(1)):
                    at = (first + t) * np.uint64(size) + base
                    row = t * width
                    for j in range(n):
                        kj = load(k, at + j, _K, _BACKWARD)
                        decayed = load(oo, row + j, _O, _BACKWARD) + load(ww, j, _W, _BACKWARD)
                        d = decayed - kj
                        e = kernel_exp_minus32(abs(d)) if single else math.exp(-abs(d))
                        past, now = select(d >= 0, one, e), select(d >= 0, e, one)
                        after = past * load(pp, row + j, _P, _BACKWARD) + now * load(v, at + j, _V, _BACKWARD)
                        store(pp, row + width + j, after, _P, _BACKWARD)
                        store(qq, row + width + j, past * load(qq, row + j, _Q, _BACKWARD) + now, _Q, _BACKWARD)
                        store(oo, row + width + j, select(d >= 0, decayed, kj), _O, _BACKWARD)
                for back in range(rows):
                    t = rows - np.uint64(1) - back
                    at = (first + t) * np.uint64(size) + base
                    row = t * width
                    for j in range(n):
                        kj = load(k, at + j, _K, _BACKWARD)
                        vj = load(v, at + j, _V, _BACKWARD)
                        p = load(pp, row + j, _P, _BACKWARD)
                        q = load(qq, row + j, _Q, _BACKWARD)
                        o = load(oo, row + j, _O, _BACKWARD)
                        wj = load(ww, j, _W, _BACKWARD)
                        a = load(aa, j, _A, _BACKWARD)
                        b = load(bb, j, _B, _BACKWARD)
                        r = load(rr, j, _R, _BACKWARD)
                        bonus = load(uu, j, _U, _BACKWARD) + kj
                        d = o - bonus
                        e = kernel_exp_minus32(abs(d)) if single else math.exp(-abs(d))
                        past, now = select(d >= 0, one, e), select(d >= 0, e, one)
                        top = select(d >= 0, o, bonus)
                        below = past * q + now
                        y = (past * p + now * vj) / below
                        g = load(gy, at + j, _GY, _BACKWARD) / below
                        # r is never below k, o + w and so on: every exponent here is negative but for rounding
                        token = kernel_exp_minus32(max(r - kj, k.dtype.type(0))) if single else math.exp(kj - r)
                        kept = kernel_exp_minus32(max(r - o - wj, k.dtype.type(0))) if single else math.exp(o + wj - r)
                        direct = now * g * (vj - y)
                        store(gv, at + j, now * g + token * a, _GV, _BACKWARD)
                        store(gk, at + j, direct + token * (a * vj + b), _GK, _BACKWARD)
                        store(guu, j, load(guu, j, _GU, _BACKWARD) + direct, _GU, _BACKWARD)
                        store(gww, j, load(gww, j, _GW, _BACKWARD) + kept * (a * p + b * q), _GW, _BACKWARD)
                        later = r - wj
                        d = top - later
                        e = kernel_exp_minus32(abs(d)) if single else math.exp(-abs(d))
                        new, old = select(d >= 0, e, one), select(d >= 0, one, e)
                        store(aa, j, new * g + old * a, _A, _BACKWARD)
                        store(bb, j, old * b - new * g * y, _B, _BACKWARD)
                        store(rr, j, select(d >= 0, later, top), _R, _BACKWARD)
            for i in range(count):
                share = np.exp(min(o0[start + i] - rr[i], k.dtype.type(0)))
                gp0[start + i], gq0[start + i] = aa[i] * share, bb[i] * share
                gw[start + i], gu[start + i] = gww[i], guu[i]

    return backward


def _flat(*tensors: Tensor) -> list[np.ndarray]:
    return [t.view(-1).numpy() for t in tensors]


def forward(
    w: Tensor, u: Tensor, k: Tensor, v: Tensor, p0: Tensor, q0: Tensor, o0: Tensor, y: Tensor, p1: Tensor, q1: Tensor,
    o1: Tensor, borders: Tensor,
) -> None:  # fmt: skip
    """Fill `y` `[T, M]`, the last state `[M]` and `borders` `[chunk_borders(T) or 0, 3, M]`; all contiguous, of one
    dtype; `w` and `u` `[C]` with C a divisor of M, the fastest axis."""
    steps, size = k.shape
    arrays = [*_flat(w, u, k, v, p0, q0, o0, y, p1, q1, o1), borders.numpy()]
    kernel = _forward_kernel(k.dtype == torch.float32)
    over_range(lambda lo, hi: kernel(*arrays, size, lo, hi), np.full(steps, size))


def backward(
    w: Tensor, u: Tensor, k: Tensor, v: Tensor, p0: Tensor, q0: Tensor, o0: Tensor, borders: Tensor, gy: Tensor,
    gp1: Tensor, gq1: Tensor, o1: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of k, v `[T, M]`, of p and q before the first token `[M]`, of w and u `[M]` (a column each)."""
    steps, size = k.shape
    gk, gv = empty_like(k), empty_like(v)
    gp0, gq0, gw, gu = (torch.empty_like(p0) for _ in range(4))
    arrays = [
        *_flat(w, u, k, v, p0, q0, o0), borders.numpy(), *_flat(gy, gp1, gq1, o1, gk, gv, gp0, gq0, gw, gu)
    ]  # fmt: skip
    kernel = _backward_kernel(k.dtype == torch.float32)
    over_range(lambda lo, hi: kernel(*arrays, size, lo, hi), np.full(steps, size))
    return gk, gv, gp0, gq0, gw, gu
