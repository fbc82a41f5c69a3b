"""Rows of weights: what linear layers and 1×1 convolutions add for every spike."""

from __future__ import annotations

import numba
import numpy as np

from ranvier.ops.direct_loops import loop

# What a loop reads lies apart from what it writes, also where both are in one arena. Rows are added one by one,
# within one pass over the sums, so that every order of grouping gives the same numbers: dense and event-driven results
# are bit-identical.
# For other compiled functions only: without what Python and C need to call them.
_jit = numba.njit(nogil=True, cache=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)


@loop
def copy_row(T, j, Y, X, y, x):
    Y[y + j] = X[x + j]


@_jit
def start(F, y, b, P, co):
    """Biases into all positions."""
    for p in range(P):
        copy_row(co, F, F, y + p * co, b)


@loop
def add_rows(T, j, Y, W, y, w0, w1, w2, w3):
    Y[y + j] = Y[y + j] + W[w0 + j] + W[w1 + j] + W[w2 + j] + W[w3 + j]


@loop
def add_scaled(T, j, Y, W, y, w0, w1, w2, w3, v0, v1, v2, v3):
    Y[y + j] = Y[y + j] + v0 * W[w0 + j] + v1 * W[w1 + j] + v2 * W[w2 + j] + v3 * W[w3 + j]


@loop
def _add_row(T, j, Y, W, y, w):
    Y[y + j] += W[w + j]


@loop
def _add_row_scaled(T, j, Y, W, y, w, v):
    Y[y + j] += v * W[w + j]


@_jit
def add_one(F, y, n, at, v):
    if v == 1:
        _add_row(n, F, F, y, at)
    else:
        _add_row_scaled(n, F, F, y, at, v)


@_jit
def rows_event(F, J, p):
    x, L, w, y, b, P, ci, co, binary = p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8], p[9]
    start(F, y, b, P, co)
    count = np.int64(J[L])
    E = J[L + 1 : L + 1 + count]
    i = 0
    while i < count:
        e = np.int64(E[i])
        at = 0 if P == 1 else e // ci
        base = at * ci
        to = y + at * co
        if i + 4 <= count:
            e1, e2, e3 = np.int64(E[i + 1]), np.int64(E[i + 2]), np.int64(E[i + 3])
            low, high = min(e1, e2, e3), max(e1, e2, e3)
            if low >= base and high < base + ci:
                w0, w1, w2, w3 = (
                    w + (e - base) * co, w + (e1 - base) * co, w + (e2 - base) * co, w + (e3 - base) * co
                )  # fmt: skip
                if binary:
                    add_rows(co, F, F, to, w0, w1, w2, w3)
                else:
                    add_scaled(co, F, F, to, w0, w1, w2, w3, F[x + e], F[x + e1], F[x + e2], F[x + e3])
                i += 4
                continue
        add_one(F, to, co, w + (e - base) * co, F[x + e])
        i += 1


@_jit
def rows_dense(F, p):
    x, w, y, b, P, ci, co = p[1], p[2], p[3], p[4], p[5], p[6], p[7]
    start(F, y, b, P, co)
    for at in range(P):
        to, e = y + at * co, x + at * ci
        r, end = w, w + ci * co
        while r + 4 * co <= end:
            add_scaled(
                co, F, F, to, r, r + co, r + 2 * co, r + 3 * co, F[e], F[e + 1], F[e + 2], F[e + 3]
            )  # fmt: skip
            r += 4 * co
            e += 4
        while r < end:
            add_one(F, to, co, r, F[e])
            r += co
            e += 1


@_jit
def add_int8(Q, S, n, at, k):
    W = Q[at : at + n]
    if k == 1:
        for j in range(n):
            S[j] += np.int32(W[j])
    else:
        for j in range(n):
            S[j] += np.int32(k * np.int32(W[j]))


@_jit
def add_four_int8(Q, S, n, w, i0, i1, i2, i3):
    w0, w1, w2, w3 = (w + i0 * n, w + i1 * n, w + i2 * n, w + i3 * n)
    A, B, C, D = Q[w0 : w0 + n], Q[w1 : w1 + n], Q[w2 : w2 + n], Q[w3 : w3 + n]
    for j in range(n):
        # four 8-bit numbers fit into 16 bits
        S[j] += np.int32(np.int16(np.int16(A[j]) + np.int16(B[j]) + np.int16(C[j]) + np.int16(D[j])))


@_jit
def finish_int8(F, A, acc, y, b, scale, P, co):
    B, C = F[b : b + co], F[scale : scale + co]
    for p in range(P):
        Y, S = F[y + p * co : y + p * co + co], A[acc + p * co : acc + p * co + co]
        for j in range(co):
            Y[j] = F.dtype.type(S[j]) * C[j] + B[j]


@_jit
def rows_int8(F, Q, J, A, p, unit):
    x, L, w, y, b, P, ci, co, binary, scale, acc = (
        p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8], p[9], p[10], p[11]
    )  # fmt: skip
    A[acc : acc + P * co] = 0
    count = np.int64(J[L])
    E = J[L + 1 : L + 1 + count]
    i = 0
    while i < count:
        e = np.int64(E[i])
        at = 0 if P == 1 else e // ci
        base = at * ci
        S = A[acc + at * co : acc + at * co + co]
        if binary and i + 4 <= count:
            e1, e2, e3 = np.int64(E[i + 1]), np.int64(E[i + 2]), np.int64(E[i + 3])
            low, high = min(e1, e2, e3), max(e1, e2, e3)
            if low >= base and high < base + ci:
                add_four_int8(Q, S, co, w, e - base, e1 - base, e2 - base, e3 - base)
                i += 4
                continue
        add_int8(Q, S, co, w + (e - base) * co, np.int32(np.rint(F[x + e] * unit)))
        i += 1
    finish_int8(F, A, acc, y, b, scale, P, co)


@_jit
def rows_int8_dense(F, Q, A, p, unit):
    x, w, y, b, P, ci, co, scale, acc = p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8], p[9]
    A[acc : acc + P * co] = 0
    for at in range(P):
        S = A[acc + at * co : acc + at * co + co]
        for c in range(ci):
            add_int8(Q, S, co, w + c * co, np.int32(np.rint(F[x + at * ci + c] * unit)))
    finish_int8(F, A, acc, y, b, scale, P, co)
