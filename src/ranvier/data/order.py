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
    return np.argsort(_words(count, seeds), kind="stable")


def balanced(labels: NDArray[np.integer], *seeds: int) -> NDArray[np.int64]:
    """As many indices as labels, drawn with replacement: a class, all equally likely, then one of its samples."""
    count = len(labels)
    words = _words(2 * count, seeds)
    order = np.argsort(labels, kind="stable")
    _, first, sizes = np.unique(labels[order], return_index=True, return_counts=True)
    chosen = (words[:count] % np.uint64(len(first))).astype(np.int64)
    within = (words[count:] % sizes[chosen].astype(np.uint64)).astype(np.int64)
    return order[first[chosen] + within]


def _words(count: int, seeds: tuple[int, ...]) -> NDArray[np.uint64]:
    return np.random.Philox(np.random.SeedSequence([int(seed) for seed in seeds])).random_raw(count)
