"""Percentiles of durations in a fixed amount of memory."""

from __future__ import annotations

import math

import numpy as np

_PER_DECADE, _DECADES, _LEAST = 50, 9, 1e-7


class Durations:
    """A histogram of durations from 0.1 µs to 100 s with 50 bins a decade; percentiles are right within 5 %."""

    def __init__(self) -> None:
        self._counts = np.zeros(_PER_DECADE * _DECADES + 1, np.int64)
        self.count, self.longest, self.total = 0, 0.0, 0.0

    def add(self, seconds: float) -> None:
        """Take note of one duration."""
        place = int(_PER_DECADE * math.log10(max(seconds, _LEAST) / _LEAST))
        self._counts[min(place, len(self._counts) - 1)] += 1
        self.count += 1
        self.total += seconds
        self.longest = max(self.longest, seconds)

    def percentile(self, share: float) -> float:
        """The duration in seconds that `share` (0 to 1) of them do not exceed; NaN without any."""
        if not self.count:
            return math.nan
        place = int(np.searchsorted(np.cumsum(self._counts), max(1, math.ceil(share * self.count))))
        return min(_LEAST * 10 ** ((place + 1) / _PER_DECADE), self.longest)

    def summary(self) -> dict[str, float]:
        """p50, p90, p99, longest and mean in microseconds."""
        if not self.count:
            return {}
        found = {f"p{round(100 * share)}_us": self.percentile(share) * 1e6 for share in (0.5, 0.9, 0.99)}
        return {**found, "max_us": self.longest * 1e6, "mean_us": self.total / self.count * 1e6}
