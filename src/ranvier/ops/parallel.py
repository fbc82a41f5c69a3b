"""Run a GIL-free kernel over a range on as many threads as torch uses.

Numba's own thread layers either need another OpenMP runtime beside torch's or abort the process when two Python
threads enter them; a small Python pool over `nogil` kernels has neither problem and follows
`torch.set_num_threads`.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import torch

ALIGN = 64  # elements: no two threads write to one cache line
MIN_WORK = 1 << 16  # element-steps below which a second thread costs more than it saves


@lru_cache(maxsize=4)
def _pool(pid: int, workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers, thread_name_prefix="ranvier-op")


def over_range(kernel: Callable[[int, int], None], active: np.ndarray) -> None:
    """Call `kernel(lo, hi)` over disjoint slices of equal work that cover the columns.

    `active` says how many columns each step has, never more than the step before; its sum decides how many threads pay.
    """
    size, work = int(active[0]), int(active.sum())
    threads = min(torch.get_num_threads(), max(1, work // MIN_WORK), max(1, size // ALIGN))
    if threads == 1:
        kernel(0, size)
        return
    slices = equal_shares(active, threads)
    pool = _pool(os.getpid(), threads - 1)
    futures = [pool.submit(kernel, lo, hi) for lo, hi in slices[1:]]
    kernel(*slices[0])
    for future in futures:
        future.result()


def equal_shares(active: np.ndarray, shares: int) -> list[tuple[int, int]]:
    """At most `shares` slices of the columns with about the same element-steps each, cut at multiples of `ALIGN`."""
    size, work = int(active[0]), int(active.sum())
    cuts = [0]
    for i in range(1, shares):
        low, high = cuts[-1], size  # the fewest columns from the left that hold i shares
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if np.minimum(active, middle).sum() * shares < work * i else (low, middle)
        cuts.append(min(-(-low // ALIGN) * ALIGN, size))
    cuts.append(size)
    return [(lo, hi) for lo, hi in itertools.pairwise(cuts) if lo < hi]
