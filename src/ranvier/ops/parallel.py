"""Run a GIL-free kernel over a range on as many threads as torch uses.

Numba's own thread layers either need another OpenMP runtime beside torch's or abort the process when two Python
threads enter them; `nogil` kernels on torch's own team (see `team`) have neither problem and follow
`torch.set_num_threads`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from ranvier.ops.team import run_together

ALIGN = 64  # elements: no two threads write to one cache line
MIN_WORK = 1 << 16  # element-steps below which a second thread costs more than it saves


def over_range(kernel: Callable[[int, int], Any], active: np.ndarray) -> None:
    """Call `kernel(lo, hi)` over disjoint slices of equal work that cover the columns.

    `active` says how many columns each step has, never more than the step before; its sum decides how many threads pay.
    """
    size, threads = int(active[0]), torch.get_num_threads()
    if threads > 1:
        threads = min(threads, max(1, int(active.sum()) // MIN_WORK), max(1, size // ALIGN))
    if threads == 1:
        kernel(0, size)
        return
    run_together([partial(kernel, lo, hi) for lo, hi in equal_shares(active, threads)])


def over_columns(kernel: Callable[[int, int], Any], size: int, steps: int) -> None:
    """`over_range` where every one of `steps` steps has `size` columns."""
    if torch.get_num_threads() == 1 or size * steps < 2 * MIN_WORK:
        kernel(0, size)
    else:
        over_range(kernel, np.full(steps, size))


def in_slices(kernel: Callable[[int, int], Any], size: int, work: int) -> None:
    """Call `kernel(lo, hi)` over equal slices that cover `range(size)`; `work` decides how many threads pay."""
    threads = min(torch.get_num_threads(), max(1, work // MIN_WORK), max(1, size))
    if threads == 1:
        kernel(0, size)
        return
    cuts = [size * i // threads for i in range(threads + 1)]
    run_together([partial(kernel, lo, hi) for lo, hi in itertools.pairwise(cuts)])


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
