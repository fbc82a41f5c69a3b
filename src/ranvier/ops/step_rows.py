"""Where the columns of every step lie in memory, for sequences of one length and for packed ones of many.

A packed batch keeps the steps one after the other and in each the sequences that still run, longest first, so that the
columns of a step are a prefix of those of the step before: the layout of `torch.nn.utils.rnn.PackedSequence`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from torch import Tensor

from ranvier.ops.leaky_scan.chunks import CHUNK, chunk_borders


@dataclass(frozen=True, eq=False)
class StepRows:
    """`first[t]` is where step t begins, `active[t]` how many columns it has, `saved[c]` where the state before step
    (c + 1)·CHUNK is kept for the way back; all int64, in elements. `kept` is how many elements are kept in all."""

    first: np.ndarray
    active: np.ndarray
    saved: np.ndarray
    kept: int

    @property
    def work(self) -> int:
        """Element-steps in all."""
        return int(self.active.sum())


@lru_cache(maxsize=256)
def even(steps: int, columns: int, training: bool = True) -> StepRows:
    """Every step has the same columns."""
    first = np.arange(steps, dtype=np.int64) * columns
    chunks = chunk_borders(steps) if training else 0
    saved = np.arange(chunks, dtype=np.int64) * columns
    return StepRows(first, np.full(steps, columns, dtype=np.int64), saved, chunks * columns)


def packed(counts: Tensor, per_sequence: int, training: bool = True) -> StepRows:
    """Step t has the columns of `counts[t]` sequences, `per_sequence` each."""
    active = counts.numpy() * per_sequence
    first = np.cumsum(active) - active
    borders = active[CHUNK::CHUNK][: chunk_borders(len(active))] if training else active[:0]
    return StepRows(first, active, np.cumsum(borders) - borders, int(borders.sum()))
