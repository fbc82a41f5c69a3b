"""Neurons, delays and everything else that remembers."""

from __future__ import annotations

import numba
import numpy as np

# For other compiled functions only: without what Python and C need to call them.
_jit = numba.njit(nogil=True, cache=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
BLOCK = 2048  # neurons between two looks at who fired: a byte each


@_jit
def collect(J, M8, M64, L, found, n, base):
    """Positions of the bytes that are set among the first `n`, behind the `found` ones of the list."""
    words = (n + 7) // 8
    for j in range(n, words * 8):
        M8[j] = 0
    for k in range(words):
        if M64[k] != 0:
            for j in range(k * 8, k * 8 + 8):
                J[L + 1 + found] = base + j
                found += M8[j]
    return found


@_jit
def forget(F, J, y, L):
    for i in range(np.int64(J[L])):
        F[y + J[L + 1 + i]] = 0


@_jit
def lif(F, J, M8, M64, p, r, unit):
    x, v, y, n, C, k, th = p[1], p[2], p[3], p[4], p[5], p[6], p[7]
    uniform, decay_input, soft, L = p[8] != 0, p[9] != 0, p[10] != 0, p[11]
    zero = F.dtype.type(0)
    found = np.int64(0)  # a literal 0 would compile `collect` a second time
    if L:
        forget(F, J, y, L)
    at = 0
    while at < n:
        m = min(BLOCK, n - at)
        if uniform:
            X, V = F[x + at : x + at + m], F[v + at : v + at + m]
            k0, t0 = F[k], F[th]
            for j in range(m):
                h = V[j] + k0 * (X[j] - (V[j] - r)) if decay_input else V[j] - k0 * (V[j] - r) + X[j]
                fired = h - t0 >= zero
                M8[j] = fired
                after = h - t0 if soft else r
                V[j] = after if fired else h
        else:
            m = min(C, n - at)  # a row of channels, or a block of one that is longer
            c = at % C
            m = min(BLOCK, C - c)
            X, V, K, T = F[x + at : x + at + m], F[v + at : v + at + m], F[k + c : k + c + m], F[th + c : th + c + m]
            for j in range(m):
                h = V[j] + K[j] * (X[j] - (V[j] - r)) if decay_input else V[j] - K[j] * (V[j] - r) + X[j]
                fired = h - T[j] >= zero
                M8[j] = fired
                after = h - T[j] if soft else r
                V[j] = after if fired else h
        if L:
            before = found
            found = collect(J, M8, M64, L, found, m, at)
            for i in range(before, found):
                F[y + J[L + 1 + i]] = unit
        else:
            Y = F[y + at : y + at + m]
            for j in range(m):
                Y[j] = F.dtype.type(M8[j]) * unit
        at += m
    if L:
        J[L] = found


@_jit
def int_lif(F, J, M8, M64, p, r, levels, a, b):
    x, v, y, n, C, k, th = p[1], p[2], p[3], p[4], p[5], p[6], p[7]
    uniform, decay_input, soft, L, half_even = p[8] != 0, p[9] != 0, p[10] != 0, p[11], p[12] != 0
    zero, half = F.dtype.type(0), F.dtype.type(0.5)
    found = np.int64(0)  # a literal 0 would compile `collect` a second time
    at = 0
    while at < n:
        if uniform:  # the parameters of one block serve them all
            m = min(BLOCK, n - at)
            c = 0
        else:
            c = at % C
            m = min(BLOCK, C - c)
        X, V, Y = F[x + at : x + at + m], F[v + at : v + at + m], F[y + at : y + at + m]
        K, T = F[k + c : k + c + m], F[th + c : th + c + m]
        for j in range(m):
            kj, tj = K[j], T[j]
            h = V[j] + kj * (X[j] - (V[j] - r)) if decay_input else V[j] - kj * (V[j] - r) + X[j]
            u = min(max(h * (a / tj), zero), levels)
            spikes = np.rint(u) if half_even else np.floor(u + half)
            Y[j] = spikes * b
            M8[j] = spikes > zero
            if soft:
                V[j] = h - spikes * (tj / a)
            else:
                V[j] = r if spikes > zero else h
        if L:
            found = collect(J, M8, M64, L, found, m, at)
        at += m
    if L:
        J[L] = found


@_jit
def leaky(F, p, keep):
    x, v, y, n = p[1], p[2], p[3], p[4]
    X, V, Y = F[x : x + n], F[v : v + n], F[y : y + n]
    for j in range(n):
        u = X[j] + keep * V[j]
        V[j] = u
        Y[j] = u


@_jit
def delay(F, J, p):
    """Spikes into a window of future outputs, which slides over a buffer twice as long."""
    x, L, w, y, b, outputs, K, ptr, off, pending, pos, binary, contiguous = (
        p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8], p[9], p[10], p[11], p[12], p[13]
    )  # fmt: skip
    now = np.int64(J[pos])
    if now > K:  # everything to the front again
        old, new = F[pending + now * outputs : pending + 2 * K * outputs], F[pending : pending + 2 * K * outputs]
        for j in range(old.size):
            new[j] = old[j]
        for j in range(old.size, 2 * K * outputs):
            new[j] = 0
        now = 0
    window = F[pending + now * outputs : pending + (now + K) * outputs]
    for i in range(np.int64(J[L])):
        e = np.int64(J[L + 1 + i])
        v = F[x + e]
        if contiguous:
            A = F[w + e * K * outputs : w + (e + 1) * K * outputs]
            for j in range(K * outputs):
                window[j] += v * A[j]
            continue
        first, last = np.int64(J[ptr + e]), np.int64(J[ptr + e + 1])
        A, T = F[w + first : w + last], J[off + first : off + last]
        if binary:
            for j in range(last - first):
                window[T[j]] += A[j]
        else:
            for j in range(last - first):
                window[T[j]] += v * A[j]
    Y, B = F[y : y + outputs], F[b : b + outputs]
    for j in range(outputs):
        Y[j] = window[j] + B[j]
    J[pos] = now + 1
