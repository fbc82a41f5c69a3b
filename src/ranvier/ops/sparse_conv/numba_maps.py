"""The compiled inner loops of kernel maps: a hash of voxels, a walk over sorted voxels, and what both fill."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True, nogil=True, inline="always")
def _slot(key, shift):
    return np.int64((np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(shift))


@numba.njit(cache=True, nogil=True)
def is_ascending(keys):
    """0: out of order, 1: ascending with repetitions, 2: strictly ascending."""
    strict = True
    for i in range(1, len(keys)):
        if keys[i] < keys[i - 1]:
            return 0
        strict &= keys[i] != keys[i - 1]
    return 2 if strict else 1


@numba.njit(cache=True, nogil=True)
def insert_all(keys, shift, table, rows):
    """Enter every key with its row into the empty `table` (−1: free); the row of the first repetition, or −1."""
    mask = len(table) - 1
    for i in range(len(keys)):
        key = keys[i]
        slot = _slot(key, shift)
        while table[slot] != -1:
            if table[slot] == key:
                return i
            slot = (slot + 1) & mask
        table[slot] = key
        rows[slot] = i
    return -1


@numba.njit(cache=True, nogil=True)
def number_distinct(keys, shift, table, rows, first, number):
    """Number the distinct keys as they appear: `number[i]` of key i, `first[k]` its key; returns how many there are."""
    mask = len(table) - 1
    count = 0
    for i in range(len(keys)):
        key = keys[i]
        slot = _slot(key, shift)
        while table[slot] != -1 and table[slot] != key:
            slot = (slot + 1) & mask
        if table[slot] == -1:
            table[slot] = key
            rows[slot] = count
            first[count] = key
            count += 1
        number[i] = rows[slot]
    return count


@numba.njit(cache=True, nogil=True)
def number_ascending(keys, first, number):
    """`number_distinct` for keys in ascending order."""
    count = 0
    for i in range(len(keys)):
        if i == 0 or keys[i] != keys[i - 1]:
            first[count] = keys[i]
            count += 1
        number[i] = count - 1
    return count


@numba.njit(cache=True, nogil=True)
def hashed_neighbours(lo, hi, keys, shift, table, rows, deltas, found):
    """`found[h, o]` = row of key `keys[o] + deltas[h]`, or −1, for the rows lo .. hi − 1."""
    mask = len(table) - 1
    for o in range(lo, hi):
        for h in range(len(deltas)):
            key = keys[o] + deltas[h]
            slot = _slot(key, shift)
            while table[slot] != -1 and table[slot] != key:
                slot = (slot + 1) & mask
            found[h, o] = rows[slot] if table[slot] == key else -1


@numba.njit(cache=True, nogil=True)
def walked_neighbours(lo, hi, keys, starts, steps, lengths, first, found):
    """`hashed_neighbours` for strictly ascending keys, line by line.

    Line l is the offsets `starts[l] + steps[l] · 0 .. lengths[l] − 1`, which are the rows `first[l] ...` of `found`.
    One pointer a line runs along with the rows, as in a merge.
    """
    n = len(keys)
    for line in range(len(starts)):
        start, step, length = starts[line], steps[line], lengths[line]
        # where the run of this line begins, by bisection
        low, high = 0, n
        while low < high:
            middle = (low + high) // 2
            if keys[middle] < keys[lo] + start:
                low = middle + 1
            else:
                high = middle
        p = low
        for o in range(lo, hi):
            wanted = keys[o] + start
            while p < n and keys[p] < wanted:
                p += 1
            q = p
            for j in range(length):
                key = wanted + j * step
                while q < n and keys[q] < key:
                    q += 1
                if q < n and keys[q] == key:
                    found[first[line] + j, o] = q
                else:
                    found[first[line] + j, o] = -1


@numba.njit(cache=True, nogil=True)
def mirrored_pairs(found, centre, in_idx, out_idx, ptr):
    """The pairs of all offsets from the neighbours of the later half; earlier offsets are their mirror images.

    With `in_idx` empty only `ptr` is filled.
    """
    half, n = found.shape
    if len(in_idx) == 0:
        counts = np.zeros(half, np.int64)
        for h in range(half):
            for o in range(n):
                counts[h] += found[h, o] >= 0
        ptr[0] = 0
        for k in range(2 * half + 1):
            size = n if k == centre else counts[abs(k - centre) - 1]
            ptr[k + 1] = ptr[k] + size
        return
    for o in range(n):
        in_idx[ptr[centre] + o] = o
        out_idx[ptr[centre] + o] = o
    for h in range(half):
        later, earlier = ptr[centre + 1 + h], ptr[centre - 1 - h]
        for o in range(n):
            i = found[h, o]
            if i >= 0:
                in_idx[later] = i
                out_idx[later] = o
                later += 1
                in_idx[earlier] = o
                out_idx[earlier] = i
                earlier += 1


@numba.njit(cache=True, nogil=True)
def reached_outputs(coords, kernel, stride, padding, dilation, extent, keys, rows, offsets):
    """Every (output key, input row, offset) of a strided convolution, input by input; returns how many.

    `extent[axis]` below 0 means no limit on that axis.
    """
    places = np.empty((3, 64), np.int64)
    kinds = np.empty((3, 64), np.int64)
    counts = np.zeros(3, np.int64)
    m = 0
    for i in range(len(coords)):
        for axis in range(3):
            counts[axis] = 0
            for k in range(kernel[axis]):
                place = coords[i, axis + 1] + padding[axis] - k * dilation[axis]
                if place % stride[axis] != 0:
                    continue
                place //= stride[axis]
                if extent[axis] >= 0 and (place < 0 or place >= extent[axis]):
                    continue
                places[axis, counts[axis]] = place
                kinds[axis, counts[axis]] = k
                counts[axis] += 1
        batch = np.int64(coords[i, 0]) << 48
        for a in range(counts[0]):
            for b in range(counts[1]):
                for c in range(counts[2]):
                    keys[m] = (
                        batch | ((places[0, a] + 32768) << 32) | ((places[1, b] + 32768) << 16) | (places[2, c] + 32768)
                    )
                    rows[m] = i
                    offsets[m] = (kinds[0, a] * kernel[1] + kinds[1, b]) * kernel[2] + kinds[2, c]
                    m += 1
    return m


@numba.njit(cache=True, nogil=True)
def grouped_pairs(rows, outputs, offsets, kernels, in_idx, out_idx, ptr):
    """Sort the pairs by offset, keeping their order inside (counting sort)."""
    counts = np.zeros(kernels, np.int64)
    for m in range(len(rows)):
        counts[offsets[m]] += 1
    ptr[0] = 0
    for k in range(kernels):
        ptr[k + 1] = ptr[k] + counts[k]
    cursor = ptr[:-1].copy()
    for m in range(len(rows)):
        place = cursor[offsets[m]]
        in_idx[place] = rows[m]
        out_idx[place] = outputs[m]
        cursor[offsets[m]] = place + 1
