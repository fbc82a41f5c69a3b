"""Mean and spread over seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from ranvier.errors import ArgumentError


@dataclass(frozen=True)
class Spread:
    """Mean, sample standard deviation (`None` for one value) and count."""

    mean: float
    sd: float | None
    n: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """The spread of at least one value."""
        given = [float(value) for value in values]
        if not given:
            raise ArgumentError("values: expected at least one")
        return cls(statistics.fmean(given), statistics.stdev(given) if len(given) > 1 else None, len(given))

    @property
    def standard_error(self) -> float | None:
        """Standard error of the mean; `None` for one value."""
        return None if self.sd is None else self.sd / math.sqrt(self.n)

    def scaled(self, factor: float) -> Spread:
        """The spread of the values times `factor`."""
        return Spread(self.mean * factor, None if self.sd is None else self.sd * abs(factor), self.n)

    def __str__(self) -> str:
        spread = "" if self.sd is None else f" ± {self.sd:.3g}"
        return f"{self.mean:.4g}{spread} (n={self.n})"
