"""Overlap of rotated rectangles by clipping one at the edges of the other."""

from __future__ import annotations

import math

import numba
import numpy as np


@numba.njit(cache=True, nogil=True)
def _corners(box, x0, y0, out):
    cos, sin = math.cos(box[4]), math.sin(box[4])
    for i in range(4):
        u = box[2] / 2 if i == 0 or i == 3 else -box[2] / 2
        v = box[3] / 2 if i < 2 else -box[3] / 2
        out[i, 0] = box[0] - x0 + u * cos - v * sin
        out[i, 1] = box[1] - y0 + u * sin + v * cos


@numba.njit(cache=True, nogil=True)
def _shared(a, b, subject, clip, spare):
    """The area that rectangles a and b share; the rest is scratch."""
    reach = math.hypot(a[2], a[3]) + math.hypot(b[2], b[3])
    if math.hypot(a[0] - b[0], a[1] - b[1]) * 2 >= reach:
        return 0.0
    _corners(a, a[0], a[1], subject)
    _corners(b, a[0], a[1], clip)
    count = 4
    for e in range(4):
        px, py = clip[e, 0], clip[e, 1]
        ex, ey = clip[(e + 1) % 4, 0] - px, clip[(e + 1) % 4, 1] - py
        made = 0
        for i in range(count):
            j = i + 1 if i + 1 < count else 0
            here = ex * (subject[i, 1] - py) - ey * (subject[i, 0] - px)
            there = ex * (subject[j, 1] - py) - ey * (subject[j, 0] - px)
            if here >= 0:
                spare[made, 0], spare[made, 1] = subject[i, 0], subject[i, 1]
                made += 1
            if (here > 0 and there < 0) or (here < 0 and there > 0):
                t = here / (here - there)
                spare[made, 0] = subject[i, 0] + t * (subject[j, 0] - subject[i, 0])
                spare[made, 1] = subject[i, 1] + t * (subject[j, 1] - subject[i, 1])
                made += 1
        count = made
        for i in range(count):
            subject[i, 0], subject[i, 1] = spare[i, 0], spare[i, 1]
    area = 0.0
    for i in range(count):
        j = i + 1 if i + 1 < count else 0
        area += subject[i, 0] * subject[j, 1] - subject[i, 1] * subject[j, 0]
    return max(0.0, area / 2)


@numba.njit(cache=True, nogil=True)
def intersections(a, b, out):
    """`out[i, j]` = area that a[i] and b[j] share."""
    subject, clip, spare = np.empty((16, 2)), np.empty((4, 2)), np.empty((16, 2))
    for i in range(len(a)):
        for j in range(len(b)):
            out[i, j] = _shared(a[i], b[j], subject, clip, spare)


@numba.njit(cache=True, nogil=True)
def keep_best(boxes, threshold, limit, kept):
    """Greedy suppression over boxes in order of their score; returns how many rows `kept` holds."""
    subject, clip, spare = np.empty((16, 2)), np.empty((4, 2)), np.empty((16, 2))
    count = 0
    for i in range(len(boxes)):
        if count == limit:
            break
        area = boxes[i, 2] * boxes[i, 3]
        best = True
        for k in range(count):
            other = boxes[kept[k]]
            shared = _shared(boxes[i], other, subject, clip, spare)
            if shared > 0 and shared / max(area + other[2] * other[3] - shared, 1e-9) > threshold:
                best = False
                break
        if best:
            kept[count] = i
            count += 1
    return count
