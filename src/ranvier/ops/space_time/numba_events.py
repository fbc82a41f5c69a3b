"""The compiled inner loop of event-driven synapses in space and time."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True, nogil=True, error_model="numpy")
def scatter(x, ptr, offset, weight, y, step, sample, width):
    """Add to the future `y` (flat, its planes padded so that no synapse leaves them) what the events of `x`
    `[T, B, P, H, W]` cause.

    An event at (t, b, row, column) and synapse s meet at `t · step + b · sample + row · width + column + offset[s]`.
    """
    steps, batch, polarities, height, columns = x.shape
    for t in range(steps):
        for b in range(batch):
            for p in range(polarities):
                first, last = np.uint64(ptr[p]), np.uint64(ptr[p + 1])
                for r in range(height):
                    for c in range(columns):
                        value = x[t, b, p, r, c]
                        if value != 0:
                            at = t * step + b * sample + r * width + c
                            for s in range(first, last):
                                y[np.uint64(at + offset[s])] += value * weight[s]
