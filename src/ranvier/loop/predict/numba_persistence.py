"""The compiled re-projection of remembered echoes."""

from __future__ import annotations

import math

import numba


@numba.njit(cache=True, nogil=True)
def project(points, stamp, x, y, now, lifetime, ranges, ages, beam, distance):
    """Re-project the points of every row into its polar image; nearest wins, each covers three beams.

    points [N, P, 2], stamp [N, P] (tick of the echo, negative where there is none), ranges/ages [N, A] (filled with
    infinity), beam int16 [N, P] and distance [N, P]: where each point falls (beam −1: none).
    """
    rows, count = stamp.shape
    beams = ranges.shape[1]
    step = 2 * math.pi / beams
    for n in range(rows):
        for p in range(count):
            beam[n, p] = -1
            if stamp[n, p] < 0:
                continue
            age = now - stamp[n, p]
            if age > lifetime:
                stamp[n, p] = -1
                continue
            dx = points[n, p, 0] - x[n]
            dy = points[n, p, 1] - y[n]
            r = math.sqrt(dx * dx + dy * dy)
            centre = int(math.floor(math.atan2(dy, dx) / step + 0.5)) % beams  # noqa: RUF046 (a float to the compiler)
            beam[n, p] = centre
            distance[n, p] = r
            for side in range(-1, 2):
                b = (centre + side) % beams
                if r < ranges[n, b]:
                    ranges[n, b] = r
                    ages[n, b] = age


@numba.njit(cache=True, nogil=True)
def forget(stamp, beam, distance, sensed, reach):
    """Remove points in beams that have just looked at least as far."""
    rows, count = stamp.shape
    for n in range(rows):
        for p in range(count):
            b = beam[n, p]
            if stamp[n, p] >= 0 and b >= 0 and sensed[n, b] and distance[n, p] <= reach[n]:
                stamp[n, p] = -1
