"""The compiled casting of beams."""

from __future__ import annotations

import math

import numba


@numba.njit(cache=True, nogil=True)
def cast_on_discs(origin, centre, radius, cosine, sine, distance, which):
    """Fill `distance` [N, A] and `which` [N, A]; see `geometry.to_discs`."""
    rows, discs = radius.shape
    beams = cosine.size
    for n in range(rows):
        for a in range(beams):
            distance[n, a] = math.inf
            which[n, a] = 0
        for d in range(discs):
            if not radius[n, d] > 0:
                continue
            x = centre[n, d, 0] - origin[n, 0]
            y = centre[n, d, 1] - origin[n, 1]
            square = radius[n, d] * radius[n, d]
            off = x * x + y * y
            inside = off <= square
            for a in range(beams):
                along = x * cosine[a] + y * sine[a]
                gap = square - off + along * along
                if inside or (gap >= 0.0 and along > 0.0):
                    found = max(along - math.sqrt(max(gap, 0.0)), 0.0)
                    if found < distance[n, a]:
                        distance[n, a] = found
                        which[n, a] = d
