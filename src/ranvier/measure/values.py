"""What kind of values a tensor carries over a whole run: spikes, signed spikes, counts or real numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

InputClass = Literal["binary", "ternary", "integer", "real"]

SPIKES: frozenset[str] = frozenset({"binary", "ternary"})
"""The classes whose values need no multiplication."""

MAX_COUNT = 64
"""Largest count, by default, of values that are a common non-unit scale times an integer."""

_EXACT_INTEGER = 2.0**24  # float32 holds every integer up to here
_TOLERANCE = 1e-5
_SMALLEST_COUNT = 8
_SAMPLE = 4096


@dataclass(frozen=True)
class Judgement:
    """Class of a run's values; counts are `value / scale`, the largest of them is `max_count` (0 for real values)."""

    input_class: InputClass
    scale: float = 1.0
    max_count: int = 1


class ValueSet:
    """The distinct values of a stream of tensors, as far as they are few; nothing else of a tensor is kept.

    Args:
        max_count: values `s·n` with a constant scale s ≠ 1 are counts while n stays below this; integers (s = 1) are
            counts of any size up to 2²⁴.
    """

    def __init__(self, max_count: int = MAX_COUNT) -> None:
        self.elements = 0
        self.nonzero = 0
        self.real = False
        self._max_count = max_count
        self._values: set[float] = set()
        self._largest_integer = 0.0  # of integers too many to list
        self._signed = False

    @property
    def plain(self) -> bool:
        """Whether every value so far is 0 or 1, so that sums of values are counts of spikes."""
        return not self.real and not self._largest_integer and self._values <= {1.0}

    def add(self, x: Tensor) -> int:
        """Take in the values of `x`; returns how many of them are not zero."""
        nonzero = int(torch.count_nonzero(x))
        self.elements += x.numel()
        self.nonzero += nonzero
        if not self.real and nonzero and not self._all_ones(x, nonzero):
            self._add_distinct(x)
        return nonzero

    def _all_ones(self, x: Tensor, nonzero: int) -> bool:
        if int(torch.count_nonzero(x == 1)) != nonzero:
            return False
        self._values.add(1.0)
        return True

    def _add_distinct(self, x: Tensor) -> None:
        flat = x.reshape(-1)
        probe = flat[:: max(1, x.numel() // _SAMPLE)]
        if not _integers(probe) and len(torch.unique(probe)) > 2 * self._max_count + 1:
            self.real = True  # told by a sample, before the whole is sorted
        elif _integers(flat):
            low, high = (float(v) for v in torch.aminmax(flat))
            self._signed |= low < 0
            if max(-low, high) > self._max_count:
                self._largest_integer = max(self._largest_integer, -low, high)
                self.real = self._largest_integer > _EXACT_INTEGER
            else:
                self._list(flat)
        else:
            self._list(flat)

    def _list(self, flat: Tensor) -> None:
        distinct = torch.unique(flat)
        if len(distinct) > 2 * self._max_count + 1 or not bool(distinct.isfinite().all()):
            self.real = True
            return
        self._values |= {v for v in distinct.double().tolist() if v != 0}
        self.real = len(self._values) > 4 * self._max_count  # the union over the run has a bound too

    def judge(self) -> Judgement:
        """The class of everything that was added; no value but zero counts as binary."""
        if self.real:
            return Judgement("real", max_count=0)
        if self._values <= {1.0} and not self._largest_integer:
            return Judgement("binary")
        if self._values <= {1.0, -1.0} and not self._largest_integer:
            return Judgement("ternary")
        scale = self._scale()
        if scale is None:
            return Judgement("real", max_count=0)
        largest = max(self._largest_integer, *(abs(v) for v in self._values), 0.0)
        return Judgement("integer", scale, round(largest / scale))

    def _scale(self) -> float | None:
        """The largest s of which all values are integer multiples, preferring 1; None where there is none."""
        sizes = sorted({abs(v) for v in self._values})
        if all(v == round(v) for v in sizes):
            return 1.0
        if self._largest_integer:
            return None
        for count in range(1, _SMALLEST_COUNT + 1):  # the smallest value need not be a single count
            scale = sizes[0] / count
            counts = [v / scale for v in sizes]
            if counts[-1] > self._max_count + 0.5:
                return None
            if all(abs(n - round(n)) <= _TOLERANCE * max(1.0, n) for n in counts):
                return scale
        return None


def _integers(x: Tensor) -> bool:
    return not x.is_floating_point() or bool((x == x.round()).all())
