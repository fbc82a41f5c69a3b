"""An event sensor: where the brightness changes by more than a threshold, there is an event."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ranvier.errors import ArgumentError, DataError, ShapeError


@dataclass(frozen=True)
class EventSensor:
    """Events of a movie: +1 where the residual R of the change D_t = I_t − I_{t−1} is above θ, −1 where below −θ.

    Args:
        threshold: θ; with `relative`, in standard deviations of D over the whole movie.
        residual: "last": R_t = D_t − θ s_{t−1}, the last event taken off (Grimaldi and Perrinet 2023, as their code
            has it: what stays below the threshold is lost). "accumulate": R_t = R_{t−1} + D_t − θ s_{t−1}, what a real
            sensor does.
        relative: θ is relative to the movie (which has to be known whole), else in units of I.
    """

    threshold: float = 1.0
    residual: Literal["last", "accumulate"] = "last"
    relative: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.threshold, int | float) or not 0 < self.threshold < np.inf:
            raise ArgumentError(f"threshold must be a positive number, got {self.threshold!r}")
        if self.residual not in ("last", "accumulate"):
            raise ArgumentError(f"residual must be 'last' or 'accumulate', got {self.residual!r}")

    def __call__(self, movie: NDArray[np.floating]) -> NDArray[np.int8]:
        """Events `[T, H, W]` of a movie `[T, H, W]`: 1 (ON), −1 (OFF) or 0; none in the first frame."""
        movie = np.asarray(movie, np.float64)
        if movie.ndim != 3 or len(movie) < 1:
            raise ShapeError(f"a movie must be [T, H, W], got shape {movie.shape}")
        if not np.isfinite(movie).all():
            raise DataError("the movie has values that are not finite")
        change = np.diff(movie, axis=0)
        theta = self.threshold * (float(change.std()) if self.relative and len(change) else 1.0)
        events = np.zeros(movie.shape, np.int8)
        if theta <= 0:
            return events  # nothing moves
        rest = np.zeros(movie.shape[1:])
        for t in range(1, len(movie)):
            rest = change[t - 1] + (rest if self.residual == "accumulate" else 0) - theta * events[t - 1]
            events[t] = (rest > theta).astype(np.int8) - (rest < -theta).astype(np.int8)
        return events
