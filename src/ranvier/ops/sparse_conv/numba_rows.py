"""The compiled inner loops of sparse convolution on the CPU: rows gathered, rows added up."""

from __future__ import annotations

import numba


@numba.njit(cache=True, nogil=True, fastmath=False)
def gather(lo, hi, x, index, out):
    """`out[m] = x[index[m]]` for the rows lo .. hi − 1."""
    channels = x.shape[1]
    for m in range(lo, hi):
        row = index[m]
        for c in range(channels):
            out[m, c] = x[row, c]


@numba.njit(cache=True, nogil=True)
def scatter_add(lo, hi, y, index, part):
    """`y[index[m]] += part[m]` for the rows lo .. hi − 1."""
    channels = y.shape[1]
    for m in range(lo, hi):
        row = index[m]
        for c in range(channels):
            y[row, c] += part[m, c]
