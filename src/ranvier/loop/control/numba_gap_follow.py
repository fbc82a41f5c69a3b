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
    nearest = np.empty(beams)
    for n in range(rows):
        # An echo stands in the way of the few headings beside it: from each, outwards on both sides until it is clear.
        nearest[:] = math.inf
        for b in range(beams):
            r = ranges[n, b]
            if not r < max_range:
                continue
            for direction in (1, -1):
                for away in range(beams):
                    k = away if direction == 1 or away == 0 else beams - away  # beam minus heading
                    c = cosine[k]
                    side = r * abs(sine[k])
                    if c <= 1e-12 or not side < clearance:
                        break
                    h = b - k if b >= k else b - k + beams
                    nearest[h] = min(nearest[h], r * c - math.sqrt(square - side * side))
        top = -math.inf
        for h in range(beams):
            free = nearest[h]
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
