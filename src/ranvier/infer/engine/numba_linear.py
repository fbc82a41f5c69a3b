"""Rows of weights: what linear layers and 1×1 convolutions add for every spike."""

from __future__ import annotations

import numba
import numpy as np

# Slices of one arena with indices from `range` vectorise. Rows are added one after the other, within one pass over the
# sums, so that every order of grouping gives the same numbers: dense and event-driven results are bit-identical.
_jit = numba.njit(nogil=True, cache=True, error_model="numpy")


@_jit
def start(F, y, b, P, co):
    """Biases into all positions."""
    B = F[b : b + co]
    for p in range(P):
        Y = F[y + p * co : y + p * co + co]
        for j in range(co):
            Y[j] = B[j]


@_jit
def add_rows(F, Y, n, w, i0, i1, i2, i3):
    w0, w1, w2, w3 = (w + i0 * n, w + i1 * n, w + i2 * n, w + i3 * n)
    A, B, C, D = F[w0 : w0 + n], F[w1 : w1 + n], F[w2 : w2 + n], F[w3 : w3 + n]
    for j in range(n):
        Y[j] = Y[j] + A[j] + B[j] + C[j] + D[j]


@_jit
def add_scaled(F, Y, n, w, i0, i1, i2, i3, v0, v1, v2, v3):
    w0, w1, w2, w3 = (w + i0 * n, w + i1 * n, w + i2 * n, w + i3 * n)
    A, B, C, D = F[w0 : w0 + n], F[w1 : w1 + n], F[w2 : w2 + n], F[w3 : w3 + n]
    for j in range(n):
        Y[j] = Y[j] + v0 * A[j] + v1 * B[j] + v2 * C[j] + v3 * D[j]


@_jit
def add_one(F, Y, n, at, v):
    A = F[at : at + n]
    if v == 1:
        for j in range(n):
            Y[j] = Y[j] + A[j]
    else:
        for j in range(n):
            Y[j] = Y[j] + v * A[j]


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
        Y = F[y + at * co : y + at * co + co]
        if i + 4 <= count:
            e1, e2, e3 = np.int64(E[i + 1]), np.int64(E[i + 2]), np.int64(E[i + 3])
            low, high = min(e1, e2, e3), max(e1, e2, e3)
            if low >= base and high < base + ci:
                if binary:
                    add_rows(F, Y, co, w, e - base, e1 - base, e2 - base, e3 - base)
                else:
                    add_scaled(
                        F, Y, co, w, e - base, e1 - base, e2 - base, e3 - base,
                        F[x + e], F[x + e1], F[x + e2], F[x + e3],
                    )  # fmt: skip
                i += 4
                continue
        add_one(F, Y, co, w + (e - base) * co, F[x + e])
        i += 1


@_jit
def rows_dense(F, p):
    x, w, y, b, P, ci, co = p[1], p[2], p[3], p[4], p[5], p[6], p[7]
    start(F, y, b, P, co)
    for at in range(P):
        Y = F[y + at * co : y + at * co + co]
        X = F[x + at * ci : x + at * ci + ci]
        i = 0
        while i + 4 <= ci:
            add_scaled(F, Y, co, w, i, i + 1, i + 2, i + 3, X[i], X[i + 1], X[i + 2], X[i + 3])
            i += 4
        while i < ci:
            add_one(F, Y, co, w + i * co, X[i])
            i += 1


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
