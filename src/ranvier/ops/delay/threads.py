"""Slices of independent work on as many threads as torch uses."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable

import torch

from ranvier.ops.parallel import MIN_WORK, _pool


def in_slices(kernel: Callable[[int, int], None], size: int, work: int) -> None:
    """Call `kernel(lo, hi)` over equal slices that cover `range(size)`; `work` decides how many threads pay."""
    threads = min(torch.get_num_threads(), max(1, work // MIN_WORK), max(1, size))
    if threads == 1:
        kernel(0, size)
        return
    cuts = [size * i // threads for i in range(threads + 1)]
    slices = list(itertools.pairwise(cuts))
    pool = _pool(os.getpid(), threads - 1)
    futures = [pool.submit(kernel, lo, hi) for lo, hi in slices[1:]]
    kernel(*slices[0])
    for future in futures:
        future.result()
