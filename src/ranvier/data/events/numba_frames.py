"""The compiled inner loop of event binning."""

from __future__ import annotations

import numba


@numba.njit(cache=True, nogil=True)
def accumulate(first, x, y, p, frames, binary, ceiling):
    """Add the events `first[b] .. first[b + 1] − 1` to frame b of `frames` [T, P, H, W].

    Counts stop at `ceiling`. With one polarity channel, both polarities land in it. Returns the number of the first
    event outside the frame, or −1.
    """
    T, P, H, W = frames.shape
    for b in range(T):
        frame = frames[b]
        for i in range(first[b], first[b + 1]):
            row, column = y[i], x[i]
            if row >= H or column >= W:
                return i
            channel = p[i] if P == 2 else 0
            if binary:
                frame[channel, row, column] = 1
            elif frame[channel, row, column] < ceiling:
                frame[channel, row, column] += 1
    return -1
