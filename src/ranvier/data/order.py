"""Random orders that depend on nothing but their numbers: the same on every machine and with every NumPy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ranvier.errors import ArgumentError


def permutation(count: int, *seeds: int) -> NDArray[np.int64]:
    """A permutation of `0 .. count − 1` determined by `seeds` (non-negative integers).

    It sorts raw Philox words, whose stream NumPy guarantees; `Generator.permutation` may change between versions.
    """
    for seed in seeds:
        if not isinstance(seed, int | np.integer) or isinstance(seed, bool) or seed < 0:
            raise ArgumentError(f"seed and epoch must be integers of at least 0, got {seed!r}")
    keys = np.random.Philox(np.random.SeedSequence([int(seed) for seed in seeds])).random_raw(count)
    return np.argsort(keys, kind="stable")
