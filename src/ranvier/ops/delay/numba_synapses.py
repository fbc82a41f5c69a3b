"""CPU kernels over single synapses at whole delays: scatter the spikes of the input, or gather for every output."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(nogil=True, cache=True, error_model="numpy")
def tabulate(weight, delay, mask_zero, ptr, post, steps, strength):
    """Synapses sorted by input: `weight` and integer `delay` are `[O, I, C]`; weightless ones are left out on request.

    Fills `ptr` `[I + 1]` and the first `ptr[I]` entries of the others; returns how many there are.
    """
    outputs, inputs, count = weight.shape
    n = 0
    for i in range(inputs):
        ptr[i] = n
        for o in range(outputs):
            for c in range(count):
                w = weight[o, i, c]
                if w != 0 or not mask_zero:
                    post[n], steps[n], strength[n] = o, delay[o, i, c], w
                    n += 1
    ptr[inputs] = n
    return n


@numba.njit(nogil=True, cache=True, error_model="numpy")
def scatter(x, ptr, post, steps, strength, y, lo, hi):
    """Add to the future `y` `[T + D, B, O]` what the inputs `x` `[T, B, I]` of samples lo .. hi − 1 cause."""
    length, batch, inputs = x.shape
    outputs = y.shape[2]
    flat = y.reshape(-1)
    row = np.uint64(batch * outputs)
    for b in range(lo, hi):
        for t in range(length):
            base = np.uint64(t) * row + np.uint64(b * outputs)
            for i in range(inputs):
                value = x[t, b, i]
                if value != 0:
                    for e in range(np.uint64(ptr[i]), np.uint64(ptr[i + 1])):
                        at = base + np.uint64(steps[e]) * row + np.uint64(post[e])
                        flat[at] += value * strength[e]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def scatter_step(x, ptr, post, steps, strength, pending, y, after):
    """`scatter` of one step `x` `[B, I]`: what is due now goes to `y` `[B, O]`, what is `pending` `[B, D, O]` moves up
    by a step into `after` (`pending` may be `[0, D, O]` for nothing)."""
    reach = after.shape[1]
    for b in range(x.shape[0]):
        if pending.shape[0] == 0 or reach == 0:
            y[b] = 0
            after[b] = 0
        else:
            y[b] = pending[b, 0]
            after[b, : reach - 1] = pending[b, 1:]
            after[b, reach - 1] = 0
        now, later = y[b], after[b].reshape(-1)
        width = np.uint64(y.shape[1])
        for i in range(x.shape[1]):
            value = x[b, i]
            if value != 0:
                for e in range(np.uint64(ptr[i]), np.uint64(ptr[i + 1])):
                    if steps[e] == 0:
                        now[post[e]] += value * strength[e]
                    else:
                        later[np.uint64(steps[e] - 1) * width + np.uint64(post[e])] += value * strength[e]


@numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})
def gather(x, ptr, pre, steps, strength, y, lo, hi):
    """`y` `[B, O, T]` of `x` `[B, I, D + T]`, which begins with the D inputs before; samples lo .. hi − 1.

    Synapses are sorted by output: `ptr` `[O + 1]`.
    """
    length = y.shape[2]
    before = x.shape[2] - length
    for b in range(lo, hi):
        for o in range(y.shape[1]):
            out = y[b, o]
            out[:] = 0
            for e in range(ptr[o], ptr[o + 1]):
                w = strength[e]
                start = before - steps[e]
                read = x[b, pre[e], start : start + length]
                for t in range(length):
                    out[t] += w * read[t]
