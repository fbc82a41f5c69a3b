"""Outputs of steps to decisions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ranvier.errors import ArgumentError, RanvierError
from ranvier.infer.early_exit import Criterion, FixedSteps
from ranvier.state import State


@dataclass(frozen=True)
class Verdict:
    """What the steps since the last verdict say.

    Attributes:
        prediction: the class; confidence: its share of the softmax of the mean output; steps: how many were looked at;
            sure: whether the criterion was met; score: of the criterion.
    """

    prediction: int
    confidence: float
    steps: int
    sure: bool
    score: float


class Decider:
    """Sums the outputs of steps and decides when `criterion` says so, after `steps` steps in any case."""

    def __init__(self, criterion: Criterion | None, steps: int | None) -> None:
        if steps is not None and (isinstance(steps, bool) or not isinstance(steps, int) or steps < 1):
            raise ArgumentError(f"steps must be an integer >= 1 or None, got {steps!r}")
        self.criterion = criterion or FixedSteps(steps or (1 << 30))
        self.steps = steps
        self.reset()

    def reset(self) -> None:
        """Begin a new look."""
        self._total: NDArray[Any] | None = None
        self._t, self._score = 0, 0.0
        self._state: State | None = None

    def push(self, output: NDArray[Any]) -> Verdict | None:
        """Take one step's output `[K]`; the verdict, if there is one now. Raises `RanvierError` for NaN."""
        if output.ndim != 1 or not np.isfinite(output).all():
            raise RanvierError(
                f"the net's output of a step must be finite [classes], got {output.shape}: {output!s:.50}"
            )
        self._total = output.astype(np.float64) if self._total is None else self._total + output
        self._t += 1
        total = torch.from_numpy(self._total).float()[None]
        if self._state is None:
            self._state = self.criterion.begin(torch.zeros(1, dtype=torch.long))
        score, self._state = self.criterion.score(total, torch.tensor([self._t]), self._state)
        self._score = float(score)
        sure = self._score > self.criterion.threshold
        return self._verdict(sure) if sure or self._t == self.steps else None

    def finish(self) -> Verdict | None:
        """The recording has ended: the verdict on what has been seen, if anything."""
        return self._verdict(False) if self._t else None

    def _verdict(self, sure: bool) -> Verdict:
        assert self._total is not None
        mean = self._total / self._t
        odds = np.exp(mean - mean.max())
        best = int(mean.argmax())
        found = Verdict(best, float(odds[best] / odds.sum()), self._t, sure, self._score)
        self.reset()
        return found
