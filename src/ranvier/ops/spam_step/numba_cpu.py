"""CPU kernel of the SPAM update: one pass over the memory of a tensor and its moments."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numba
import numpy as np
from torch import Tensor

from ranvier.ops.array_access import load, select, store
from ranvier.ops.parallel import MIN_WORK, over_range
from ranvier.ops.spam_step.reference import SpamUpdate

BLOCK = 4096  # coordinates whose clipped ones are counted in the float type before they join the whole count


@lru_cache(maxsize=8)
def _kernel(clip: bool, guard: bool, zero: bool) -> Callable[..., int]:
    # Unsigned indices, so that LLVM makes vector code of it (numba tests signed ones for wrap-around).
    @numba.njit(nogil=True, cache=True, error_model="numpy")
    def update(p, g, m, v, lo, hi, sign, beta1, rest1, beta2, rest2, root, step, eps, keep):
        clipped = np.int64(0)
        none = p.dtype.type(0)
        for start in range(lo, hi, BLOCK):
            n = np.uint64(min(BLOCK, hi - start))
            base = np.uint64(start)
            found = np.int32(0)
            for j in range(n):
                i = base + j
                c = sign * load(g, i, 0, 4)
                second = load(v, i, 1, 4)
                if clip:
                    limit = root * np.sqrt(second)
                    spiked = (abs(c) > limit) & (second > none) if guard else abs(c) > limit
                    c = select(spiked, none if zero else np.copysign(limit, c), c)
                    found += select(spiked, np.int32(1), np.int32(0))
                first = beta1 * load(m, i, 2, 4) + rest1 * c
                second = beta2 * second + rest2 * c * c
                store(m, i, first, 2, 4)
                store(v, i, second, 1, 4)
                store(p, i, (load(p, i, 3, 4) - step * first / (np.sqrt(second) + eps)) * keep, 3, 4)
            clipped += np.int64(found)
        return clipped

    return update


def update(p: Tensor, g: Tensor, m: Tensor, v: Tensor, step: float, u: SpamUpdate) -> int:
    """Update flat contiguous float32 or float64 tensors in place; returns how many coordinates were clipped."""
    kernel = _kernel(u.root is not None, u.guard, u.zero)
    arrays = [t.numpy() for t in (p, g, m, v)]
    kind = arrays[0].dtype.type
    numbers = [
        kind(n)
        for n in (
            -1.0 if u.maximize else 1.0, u.beta1, 1 - u.beta1, u.beta2, 1 - u.beta2, u.root or 0.0, step, u.eps,
            1 - u.decay,
        )
    ]  # fmt: skip
    size = p.numel()
    if size < MIN_WORK:  # no second thread: straight to the kernel
        return kernel(*arrays, 0, size, *numbers)
    counts: list[int] = []
    over_range(lambda lo, hi: counts.append(kernel(*arrays, lo, hi, *numbers)), np.array([size]))
    return sum(counts)
