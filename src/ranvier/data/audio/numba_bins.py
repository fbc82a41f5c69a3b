"""The compiled inner loops of binning spike recordings."""

from __future__ import annotations

import numba


@numba.njit(cache=True, nogil=True)
def count_frames(t, first, width, mode, out):
    """How many frames every recording has; mode 0 counts from its first event, 1 from time 0, 2 opens at events."""
    for i in range(len(out)):
        begin, end = first[i], first[i + 1]
        if begin == end:
            out[i] = 0
        elif mode < 2:
            start = t[begin] if mode == 0 else 0
            out[i] = (t[end - 1] - start) // width + 1
        else:
            opened, frames = t[begin], 1
            for j in range(begin, end):
                if t[j] - opened > width:
                    opened = t[j]
                    frames += 1
            out[i] = frames


@numba.njit(cache=True, nogil=True)
def bin_events(t, units, first, index, width, mode, group, binary, out):
    """Add the events of recordings `index` to `out` `[T, B, channels]`, zeros before; later frames are cut off."""
    steps = out.shape[0]
    for b in range(len(index)):
        begin, end = first[index[b]], first[index[b] + 1]
        if begin == end:
            continue
        start = t[begin] if mode != 1 else 0
        frame = 0
        for j in range(begin, end):
            if mode < 2:
                frame = (t[j] - start) // width
            elif t[j] - start > width:
                start = t[j]
                frame += 1
            if frame >= steps:
                break
            channel = units[j] // group
            if binary:
                out[frame, b, channel] = 1
            else:
                out[frame, b, channel] += 1
