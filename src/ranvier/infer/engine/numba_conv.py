"""Convolutions on images whose channels lie together: scattered spike by spike, or gathered for every output."""

from __future__ import annotations

import numba
import numpy as np

from ranvier.infer.engine.numba_linear import add_int8, add_one, add_scaled, finish_int8, start

# For other compiled functions only: without what Python and C need to call them.
_jit = numba.njit(nogil=True, cache=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)

# `conv_event` and `conv_int8` walk over taps alike and are written out twice on purpose: a walk that takes its adder as
# an argument, or closes over it, is not found in Numba's cache by the next process, which would compile it for seconds.


@_jit
def conv_event(F, J, p):
    x, L, w, y, b, W, ci, OH, OW, co, kh, kw = (
        p[1], p[2], p[3], p[4], p[5], p[7], p[8], p[9], p[10], p[11], p[12], p[13]
    )  # fmt: skip
    sh, sw, ph, pw, dh, dw, groups, binary = p[14], p[15], p[16], p[17], p[18], p[19], p[20], p[21]
    start(F, y, b, OH * OW, co)
    width, inputs = co // groups, ci // groups
    straight = sh == 1 and sw == 1 and dh == 1 and dw == 1 and groups == 1
    count = np.int64(J[L])
    for i in range(count):
        e = np.int64(J[L + 1 + i])
        pixel = e // ci
        c = e - pixel * ci
        row = pixel // W
        column = pixel - row * W
        v = F[x + e]
        if binary:
            v = F.dtype.type(1)
        taps = w + c * kh * kw * width  # [ky][kx from the last][o]
        if straight:
            first = column + pw - kw + 1
            low, high = max(first, 0), min(first + kw, OW)
            if high <= low:
                continue
            for ky in range(kh):
                out = row + ph - ky
                if 0 <= out < OH:
                    n = (high - low) * co
                    at = y + (out * OW + low) * co
                    add_one(F, at, n, taps + (ky * kw + low - first) * co, v)
            continue
        shift = (c // inputs) * width
        for ky in range(kh):
            down = row + ph - ky * dh
            if down < 0 or down % sh or down // sh >= OH:
                continue
            for kx in range(kw):
                across = column + pw - kx * dw
                if across < 0 or across % sw or across // sw >= OW:
                    continue
                at = y + (down // sh * OW + across // sw) * co + shift
                add_one(F, at, width, taps + (ky * kw + kw - 1 - kx) * width, v)


@_jit
def conv_dense(F, p):
    x, w, y, b, H, W, ci, OH, OW, co, kh, kw = (
        p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8], p[9], p[10], p[11], p[12]
    )  # fmt: skip
    sh, sw, ph, pw, dh, dw, groups = p[13], p[14], p[15], p[16], p[17], p[18], p[19]
    start(F, y, b, OH * OW, co)
    width, inputs = co // groups, ci // groups
    far = kh * kw  # rows of weights from one input channel to the next
    for out in range(OH):
        for over in range(OW):
            for ky in range(kh):
                row = out * sh + ky * dh - ph
                if row < 0 or row >= H:
                    continue
                for kx in range(kw):
                    column = over * sw + kx * dw - pw
                    if column < 0 or column >= W:
                        continue
                    tap = ky * kw + kw - 1 - kx
                    for g in range(groups):
                        at = y + (out * OW + over) * co + g * width
                        e = x + (row * W + column) * ci + g * inputs
                        end = e + inputs
                        r, step = w + (g * inputs * far + tap) * width, far * width
                        while e + 4 <= end:
                            add_scaled(
                                width, F, F, at, r, r + step, r + 2 * step, r + 3 * step,
                                F[e], F[e + 1], F[e + 2], F[e + 3],
                            )  # fmt: skip
                            e += 4
                            r += 4 * step
                        while e < end:
                            add_one(F, at, width, r, F[e])
                            e += 1
                            r += step


@_jit
def conv_int8(F, Q, J, A, p, unit):
    x, L, w, y, b, W, ci, OH, OW, co, kh, kw = (
        p[1], p[2], p[3], p[4], p[5], p[7], p[8], p[9], p[10], p[11], p[12], p[13]
    )  # fmt: skip
    sh, sw, ph, pw, dh, dw, groups, binary, scale, acc = (
        p[14], p[15], p[16], p[17], p[18], p[19], p[20], p[21], p[22], p[23]
    )  # fmt: skip
    A[acc : acc + OH * OW * co] = 0
    width, inputs = co // groups, ci // groups
    straight = sh == 1 and sw == 1 and dh == 1 and dw == 1 and groups == 1
    count = np.int64(J[L])
    for i in range(count):
        e = np.int64(J[L + 1 + i])
        pixel = e // ci
        c = e - pixel * ci
        row = pixel // W
        column = pixel - row * W
        k = np.int32(1) if binary else np.int32(np.rint(F[x + e] * unit))
        taps = w + c * kh * kw * width
        if straight:
            first = column + pw - kw + 1
            low, high = max(first, 0), min(first + kw, OW)
            if high <= low:
                continue
            for ky in range(kh):
                out = row + ph - ky
                if 0 <= out < OH:
                    n = (high - low) * co
                    at = acc + (out * OW + low) * co
                    add_int8(Q, A[at : at + n], n, taps + (ky * kw + low - first) * co, k)
            continue
        shift = (c // inputs) * width
        for ky in range(kh):
            down = row + ph - ky * dh
            if down < 0 or down % sh or down // sh >= OH:
                continue
            for kx in range(kw):
                across = column + pw - kx * dw
                if across < 0 or across % sw or across // sw >= OW:
                    continue
                at = acc + (down // sh * OW + across // sw) * co + shift
                add_int8(Q, A[at : at + width], width, taps + (ky * kw + kw - 1 - kx) * width, k)
    finish_int8(F, A, acc, y, b, scale, OH * OW, co)


@_jit
def max_dense(F, p):
    x, y, H, W, C, OH, OW, kh, kw, sh, sw, ph, pw, dh, dw = (
        p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8], p[9], p[10], p[11], p[12], p[13], p[14], p[15]
    )  # fmt: skip
    for out in range(OH):
        for over in range(OW):
            at = y + (out * OW + over) * C
            Y = F[at : at + C]
            fresh = True
            for ky in range(kh):
                row = out * sh + ky * dh - ph
                if row < 0 or row >= H:
                    continue
                for kx in range(kw):
                    column = over * sw + kx * dw - pw
                    if column < 0 or column >= W:
                        continue
                    X = F[x + (row * W + column) * C : x + (row * W + column) * C + C]
                    if fresh:
                        for j in range(C):
                            Y[j] = X[j]
                        fresh = False
                    else:
                        for j in range(C):
                            Y[j] = max(Y[j], X[j])


@_jit
def max_event(F, J, p):
    """The largest of spikes: only windows with a spike in them are touched. `M` is its own list."""
    x, L, y, M, to, fan = p[1], p[2], p[3], p[4], p[5], p[6]
    for i in range(np.int64(J[M])):
        F[y + J[M + 1 + i]] = 0
    made = 0
    for i in range(np.int64(J[L])):
        e = np.int64(J[L + 1 + i])
        v = F[x + e]
        for k in range(fan):
            at = np.int64(J[to + e * fan + k])
            if at < 0:
                break
            if F[y + at] == 0:
                J[M + 1 + made] = at
                made += 1
            if v > F[y + at]:
                F[y + at] = v
    J[M] = made
