"""Sums, elementwise arithmetic, and products of spikes by counting bits."""

from __future__ import annotations

import math

import numba
import numpy as np
from numba.core import types
from numba.extending import intrinsic

# For other compiled functions only: without what Python and C need to call them.
_jit = numba.njit(nogil=True, cache=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)


@intrinsic
def popcount(typingctx, word):
    """Bits set in an unsigned word."""

    def codegen(context, builder, signature, args):
        return builder.ctpop(args[0])

    return types.uint64(types.uint64), codegen


@_jit
def copy(F, J, p):
    x, y, n, at = p[1], p[2], p[3], p[4]
    Y, T = F[y : y + n], J[at : at + n]
    for j in range(n):
        Y[j] = F[x + T[j]]


@_jit
def events(F, J, p):
    x, n, L = p[1], p[2], p[3]
    X = F[x : x + n]
    found = 0
    for j in range(n):
        J[L + 1 + found] = j
        found += X[j] != 0
    J[L] = found


@_jit
def affine(F, p):
    x, y, n, C, a, b = p[1], p[2], p[3], p[4], p[5], p[6]
    A, B = F[a : a + C], F[b : b + C]
    for at in range(0, n, C):
        X, Y = F[x + at : x + at + C], F[y + at : y + at + C]
        for j in range(C):
            Y[j] = X[j] * A[j] + B[j]


@_jit
def sum_dense(F, J, p):
    x, y, m, ptr, idx, scale = p[1], p[2], p[3], p[4], p[5], p[6]
    for i in range(m):
        total = F.dtype.type(0)
        for k in range(np.int64(J[ptr + i]), np.int64(J[ptr + i + 1])):
            total += F[x + J[idx + k]]
        F[y + i] = total * F[scale + i]


@_jit
def sum_event(F, J, p):
    x, L, y, m, ptr, idx, scale = p[1], p[2], p[3], p[4], p[5], p[6], p[7]
    Y, C = F[y : y + m], F[scale : scale + m]
    for i in range(m):
        Y[i] = 0
    for i in range(np.int64(J[L])):
        e = np.int64(J[L + 1 + i])
        v = F[x + e]
        for k in range(np.int64(J[ptr + e]), np.int64(J[ptr + e + 1])):
            Y[J[idx + k]] += v
    for i in range(m):
        Y[i] *= C[i]


@_jit
def _apply(kind, a, b):
    if kind == 0:
        return a + b
    if kind == 1:
        return a - b
    if kind == 2:
        return a * b
    if kind == 3:
        return a / b
    return b - a


@_jit
def binary(F, J, p, constant):
    a, amap, b, bmode, bmap, y, n, kind = p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8]
    Y = F[y : y + n]
    if amap < 0 and bmode == 0:
        A, B = F[a : a + n], F[b : b + n]
        if kind == 0:
            for j in range(n):
                Y[j] = A[j] + B[j]
        elif kind == 2:
            for j in range(n):
                Y[j] = A[j] * B[j]
        else:
            for j in range(n):
                Y[j] = _apply(kind, A[j], B[j])
        return
    if amap < 0 and bmode == 1:
        A = F[a : a + n]
        if kind == 0:
            for j in range(n):
                Y[j] = A[j] + constant
        elif kind == 2:
            for j in range(n):
                Y[j] = A[j] * constant
        else:
            for j in range(n):
                Y[j] = _apply(kind, A[j], constant)
        return
    for j in range(n):
        left = F[a + j] if amap < 0 else F[a + J[amap + j]]
        right = constant if bmode == 1 else F[b + j] if bmode == 0 else F[b + J[bmap + j]]
        Y[j] = _apply(kind, left, right)


@_jit
def unary(F, p):
    x, y, n, kind = p[1], p[2], p[3], p[4]
    X, Y = F[x : x + n], F[y : y + n]
    one, zero = F.dtype.type(1), F.dtype.type(0)
    for j in range(n):
        v = X[j]
        if kind == 0:
            Y[j] = max(v, zero)
        elif kind == 1:
            Y[j] = -v
        elif kind == 2:
            Y[j] = abs(v)
        elif kind == 3:
            Y[j] = one / (one + math.exp(-v))
        else:
            Y[j] = math.tanh(v)


@_jit
def pack(J, U, p):
    L, table, words, count = p[1], p[2], p[3], p[4]
    U[words : words + count] = 0
    for i in range(np.int64(J[L])):
        bit = np.int64(J[table + J[L + 1 + i]])
        if bit >= 0:
            U[words + (bit >> 6)] |= np.uint64(1) << np.uint64(bit & 63)


@_jit
def popcount_product(F, U, p, scale):
    left, right, y, B, M, N, words, sb, sm, sn = (
        p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8], p[9], p[10]
    )  # fmt: skip
    for b in range(B):
        for m in range(M):
            A = U[left + (b * M + m) * words : left + (b * M + m + 1) * words]
            for n in range(N):
                C = U[right + (b * N + n) * words : right + (b * N + n + 1) * words]
                total = np.uint64(0)
                for k in range(words):
                    total += popcount(A[k] & C[k])
                F[y + b * sb + m * sm + n * sn] = F.dtype.type(np.int64(total)) * scale


@_jit
def product_event(F, J, p):
    x, s, L, source, target, y, n, m, binary = p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8], p[9]
    F[y : y + n] = 0
    for i in range(np.int64(J[L])):
        e = np.int64(J[L + 1 + i])
        at = np.int64(J[source + e])
        if at < 0:
            continue
        to = np.int64(J[target + e])
        X, Y = F[x + at : x + at + m], F[y + to : y + to + m]
        if binary:
            for j in range(m):
                Y[j] += X[j]
        else:
            v = F[s + e]
            for j in range(m):
                Y[j] += v * X[j]


@_jit
def product_dense(F, p):
    a, b, y, B, M, N, K = p[1], p[2], p[3], p[4], p[5], p[6], p[7]
    for i in range(B):
        for m in range(M):
            A = F[a + (i * M + m) * K : a + (i * M + m + 1) * K]
            for n in range(N):
                C = F[b + (i * N + n) * K : b + (i * N + n + 1) * K]
                total = F.dtype.type(0)
                for k in range(K):
                    total += A[k] * C[k]
                F[y + (i * M + m) * N + n] = total
