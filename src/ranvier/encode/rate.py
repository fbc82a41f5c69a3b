"""Rate encoding: brightness as the probability of a spike."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from ranvier.encode.encoder import ENCODERS, Encoder
from ranvier.errors import ArgumentError


@ENCODERS.register("rate")
class Rate(Encoder):
    """`S_t ~ Bernoulli(x)`, independent at every step: `S_t = 1[u < x]` with u uniform in [0, 1).

    Without `seed` the draws come from PyTorch's global generator (fresh noise at every call). With `seed` every call
    draws the same numbers, so that two calls on one input agree. `forward(x, T, generator=...)` overrides both.
    """

    name: ClassVar[str] = "rate"
    formula: ClassVar[str] = "S_t ~ Bernoulli(x)"

    def __init__(self, seed: int | None = None) -> None:
        super().__init__()
        if seed is not None and (not isinstance(seed, int) or isinstance(seed, bool)):
            raise ArgumentError(f"seed must be an integer or None, got {seed!r}")
        self.seed = seed

    def forward(self, x: Tensor, T: int, generator: torch.Generator | None = None) -> Tensor:
        """As `Encoder.forward`, with draws from `generator` (on the device of `x`) when one is given."""
        self.check(x, T)
        return self.encode(x, T) if generator is None else self._draw(x, T, generator)

    def encode(self, x: Tensor, T: int) -> Tensor:
        generator = None if self.seed is None else torch.Generator(x.device).manual_seed(self.seed)
        return self._draw(x, T, generator)

    def _draw(self, x: Tensor, T: int, generator: torch.Generator | None) -> Tensor:
        # Half precision has too few levels between 0 and 1 to compare with: draw in float32 at least.
        wide = torch.promote_types(x.dtype, torch.float32)
        u = torch.rand((T, *x.shape), dtype=wide, device=x.device, generator=generator)
        return (u < x).to(x.dtype)

    def config(self) -> dict[str, Any]:
        return {"type": self.name} | ({} if self.seed is None else {"seed": self.seed})
