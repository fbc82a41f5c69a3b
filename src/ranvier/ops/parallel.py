"""Run a GIL-free kernel over a range on as many threads as torch uses.

Numba's own thread layers either need another OpenMP runtime beside torch's or abort the process when two Python
threads enter them; a small Python pool over `nogil` kernels has neither problem and follows
`torch.set_num_threads`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import torch

ALIGN = 64  # elements: no two threads write to one cache line
MIN_WORK = 1 << 16  # element-steps below which a second thread costs more than it saves


@lru_cache(maxsize=4)
def _pool(pid: int, workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers, thread_name_prefix="ranvier-op")


def over_range(kernel: Callable[[int, int], None], size: int, work: int) -> None:
    """Call `kernel(lo, hi)` over disjoint slices that cover `range(size)`; `work` decides how many threads pay."""
    threads = min(torch.get_num_threads(), max(1, work // MIN_WORK), max(1, size // ALIGN))
    if threads == 1:
        kernel(0, size)
        return
    step = -(-size // (threads * ALIGN)) * ALIGN
    slices = [(lo, min(lo + step, size)) for lo in range(0, size, step)]
    pool = _pool(os.getpid(), threads - 1)
    futures = [pool.submit(kernel, lo, hi) for lo, hi in slices[1:]]
    kernel(*slices[0])
    for future in futures:
        future.result()
