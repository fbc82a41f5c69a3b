"""The compiled inner loop from membrane velocity to spikes."""

from __future__ import annotations

import math

import numba
import numpy as np


@numba.njit(cache=True, nogil=True)
def seed_streams(seed, streams):
    """A state of xorshift64* for every channel, from one seed by splitmix64; none of them is 0."""
    z = np.uint64(seed)
    for i in range(len(streams)):
        z += np.uint64(0x9E3779B97F4A7C15)
        w = z
        w = (w ^ (w >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        w = (w ^ (w >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        w ^= w >> np.uint64(31)
        streams[i] = w if w != 0 else np.uint64(1)


@numba.njit(nogil=True, inline="always")
def _uniform(streams, i):
    x = streams[i]
    x ^= x >> np.uint64(12)
    x ^= x << np.uint64(25)
    x ^= x >> np.uint64(27)
    streams[i] = x
    return ((x * np.uint64(0x2545F4914F6CDD1D)) >> np.uint64(11)) * 1.1102230246251565e-16


@numba.njit(nogil=True)
def _binomial_above_zero(u, n, p):
    """How many of `n` fibres fire, by inversion of 1 − u: none unless u < 1 − (1 − p)ⁿ, which is at most n p."""
    if p >= 1.0:
        return n
    term = math.exp(n * math.log1p(-p))
    total = term
    ratio = p / (1.0 - p)
    k = 0
    while 1.0 - u >= total and k < n:
        term *= ratio * (n - k) / (k + 1)
        k += 1
        total += term
    return k


@numba.njit(cache=True, nogil=True, fastmath={"contract", "arcp", "nsz"})
def hair_cells(v, q, c, w, p, steps):
    """One sample for all channels: updates q, c, w and writes the firing probabilities to `p`."""
    y, g, lr, r, x, h, a, b, m = (
        steps[0], steps[1], steps[2], steps[3], steps[4], steps[5], steps[6], steps[7], steps[8],
    )  # fmt: skip
    zero = np.float32(0)
    for i in range(len(v)):
        drive = max(v[i] + a, zero)
        eject = g * drive / (drive + b) * q[i]
        reprocess = x * w[i]
        clear = c[i]
        q[i] = max(q[i] + max(y * (m - q[i]), zero) - eject + reprocess, zero)
        c[i] = max(clear + eject - lr * clear, zero)
        w[i] = max(w[i] + r * clear - reprocess, zero)
        p[i] = c[i] * h


@numba.njit(cache=True, nogil=True)
def run(velocity, first, cell_steps, bushy_steps, pause, fibres, hair, bushy, waits, ring, free, streams, out_t, out_u):
    """Samples `first`, `first + 1`, ... of `velocity` `[samples, channels]`; state arrays go on where they were.

    `hair` holds q, c, w, p, `bushy` membrane and current. `ring` `[pause, channels]` holds how many fibres fired in
    each of the last samples, `free` how many may fire. Spikes go to `out_t`, `out_u`; returns their number, or −1 when
    they do not fit.
    """
    samples, channels = velocity.shape
    mem, syn, gain = bushy_steps[0], bushy_steps[1], bushy_steps[2]
    membrane, current = bushy[0], bushy[1]
    found = 0
    for s in range(samples):
        t = first + s
        hair_cells(velocity[s], hair[0], hair[1], hair[2], hair[3], cell_steps)
        slot = ring[t % pause]
        if found + channels > len(out_t):
            return -1
        for i in range(channels):
            free[i] += slot[i]
            p = hair[3, i]
            u = _uniform(streams, i)
            count = 0
            if u < free[i] * p:
                count = _binomial_above_zero(u, free[i], p)
            slot[i] = count
            free[i] -= count
            v = membrane[i]
            if waits[i] <= 0:
                if v >= 1.0:
                    out_t[found] = t - 1
                    out_u[found] = i
                    found += 1
                    waits[i] = pause
                    v = 0.0
                else:
                    v *= mem
            drive = current[i] * syn + count
            current[i] = drive
            if waits[i] <= 0:
                v = min(v + drive * gain, 1.0)
            membrane[i] = v
            waits[i] -= 1
    return found
