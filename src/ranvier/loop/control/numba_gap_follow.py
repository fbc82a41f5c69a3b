"""The compiled choice of a heading."""

from __future__ import annotations

import math

import numba
import numpy as np


@numba.njit(cache=True, nogil=True)
def choose(ranges, max_range, clearance, goal_bearing, goal_distance, previous, best, room):
    """Best heading index and free distance per row; see `GapFollow`."""
    rows, beams = ranges.shape
    step = 2 * math.pi / beams
    cosine = np.cos(np.arange(beams) * step)
    sine = np.sin(np.arange(beams) * step)
    square = clearance * clearance
    for n in range(rows):
        top = -math.inf
        for h in range(beams):
            free = math.inf
            for k in range(beams):
                c = cosine[k]
                if c <= 1e-12:
                    continue
                b = h + k
                if b >= beams:
                    b -= beams
                r = ranges[n, b]
                side = r * abs(sine[k])
                if r < max_range and side < clearance:
                    d = r * c - math.sqrt(square - side * side)
                    if d < free:
                        free = d
            if free == math.inf:
                free = max_range
            if goal_distance[n] < free:
                free = goal_distance[n]
            score = min(free, 3.0) * (1.05 + math.cos(h * step - goal_bearing[n]))
            score += 0.25 * math.cos(h * step - previous[n])
            if score > top:
                top = score
                best[n] = h
                room[n] = free
