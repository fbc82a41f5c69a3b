"""Rate encoding without noise: spikes as evenly spaced as whole steps allow."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from ranvier.encode.encoder import ENCODERS, Encoder, steps_like


@ENCODERS.register("deterministic_rate")
class DeterministicRate(Encoder):
    """`S_t = ⌊t x⌋ − ⌊(t − 1) x⌋` for t = 1 .. T: the rate errs by less than 1/T."""

    name: ClassVar[str] = "deterministic_rate"
    formula: ClassVar[str] = "S_t = ⌊t x⌋ − ⌊(t − 1) x⌋"

    def encode(self, x: Tensor, T: int) -> Tensor:
        steps = steps_like(x, T + 1).to(x.dtype)
        counts = (steps * x).floor()
        return counts[1:] - counts[:-1]
