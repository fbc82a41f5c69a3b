"""The compiled inner loops of the point operations, cloud by cloud."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True, nogil=True)
def farthest(xyz, first, out):
    """Farthest-point sampling of `xyz` [B, N, D] from the rows `first`."""
    batch, n, dims = xyz.shape
    distance = np.empty(n)
    for b in range(batch):
        distance[:] = np.inf
        last = first[b]
        out[b, 0] = last
        for step in range(1, out.shape[1]):
            best, far = -2.0, 0
            for i in range(n):
                if i == last:
                    distance[i] = -1.0
                elif distance[i] >= 0:
                    d = 0.0
                    for axis in range(dims):
                        gap = xyz[b, i, axis] - xyz[b, last, axis]
                        d += gap * gap
                    if d < distance[i]:
                        distance[i] = d
                if distance[i] > best:
                    best, far = distance[i], i
            last = far
            out[b, step] = last


@numba.njit(cache=True, nogil=True)
def nearest(query, xyz, out):
    """The nearest rows of `xyz` [B, N, D] for `query` [B, M, D], by insertion into a short sorted list."""
    batch, m, dims = query.shape
    n, k = xyz.shape[1], out.shape[2]
    best = np.empty(k)
    for b in range(batch):
        for q in range(m):
            filled = 0
            row = out[b, q]
            for i in range(n):
                d = 0.0
                for axis in range(dims):
                    gap = query[b, q, axis] - xyz[b, i, axis]
                    d += gap * gap
                if filled == k and d >= best[k - 1]:
                    continue
                place = filled if filled < k else k - 1
                while place > 0 and best[place - 1] > d:
                    best[place] = best[place - 1]
                    row[place] = row[place - 1]
                    place -= 1
                best[place] = d
                row[place] = i
                if filled < k:
                    filled += 1


@numba.njit(cache=True, nogil=True)
def in_ball(query, xyz, radius2, out):
    """The first rows of `xyz` within a radius; `out` is −1 before."""
    batch, m, dims = query.shape
    n, k = xyz.shape[1], out.shape[2]
    for b in range(batch):
        for q in range(m):
            count = 0
            for i in range(n):
                d = 0.0
                for axis in range(dims):
                    gap = query[b, q, axis] - xyz[b, i, axis]
                    d += gap * gap
                if d < radius2:
                    out[b, q, count] = i
                    count += 1
                    if count == k:
                        break
            if count > 0:
                for j in range(count, k):
                    out[b, q, j] = out[b, q, 0]
