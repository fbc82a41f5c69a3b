"""The compiled inner loop of event-driven synapses in space and time."""

from __future__ import annotations

import numba


@numba.njit(cache=True, nogil=True)
def scatter(x, ptr, target, delay, rows, columns, weight, y):
    """Add to the future `y` `[T + K − 1, B, C, H, W]` what the events of `x` `[T, B, P, H, W]` cause."""
    steps, batch, polarities, height, width = x.shape
    for t in range(steps):
        for b in range(batch):
            for p in range(polarities):
                for r in range(height):
                    for c in range(width):
                        value = x[t, b, p, r, c]
                        if value != 0:
                            for s in range(ptr[p], ptr[p + 1]):
                                i, j = r + rows[s], c + columns[s]
                                if 0 <= i < height and 0 <= j < width:
                                    y[t + delay[s], b, target[s], i, j] += value * weight[s]
