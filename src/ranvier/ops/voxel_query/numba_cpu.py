"""The compiled search of `voxel_query`: one bisection a line of voxels."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True, nogil=True)
def query(keys, centres, cells, places, reach, radius2, found):
    """See `voxel_query`; `keys` are ascending packed voxels, `found` is −1 before."""
    n, most = len(keys), found.shape[1]
    for q in range(len(cells)):
        count = 0
        for a in range(-reach, reach + 1):
            for b in range(-reach, reach + 1):
                line = (
                    (np.int64(cells[q, 0]) << 48)
                    + ((cells[q, 1] + a + 32768) << 32)
                    + ((cells[q, 2] + b + 32768) << 16)
                    + cells[q, 3]
                    + 32768
                )
                low, high = 0, n
                while low < high:
                    middle = (low + high) // 2
                    if keys[middle] < line - reach:
                        low = middle + 1
                    else:
                        high = middle
                while low < n and keys[low] <= line + reach:
                    distance = 0.0
                    for axis in range(3):
                        d = centres[low, axis] - places[q, axis]
                        distance += d * d
                    if distance < radius2:
                        found[q, count] = low
                        count += 1
                        if count == most:
                            break
                    low += 1
                if count == most:
                    break
            if count == most:
                break
        if count > 0:
            for k in range(count, most):
                found[q, k] = found[q, 0]
