"""Spatio-temporal regularisation: one learned coefficient a step between alignment and classification."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ranvier.errors import ArgumentError


class TemporalCoefficients(nn.Module):
    """`σ(η_t)` for T steps: the weight of the alignment at t; its complement weighs the event loss (He et al. 2024).

    The published loss is linear in σ, so that its optimum lies at an end: at a step where the event loss exceeds the
    weighted alignment, σ climbs to 1 and switches the event loss off. Two remedies, both off by default: `bounds`
    keeps σ inside an interval, and `entropy` rewards values between the ends, so that the optimum becomes
    `σ(g_t / entropy)`, g_t the event loss minus the weighted alignment at step t.

    Args:
        T: steps.
        init: of every η; σ(1) = 0.731.
        bounds: `(low, high)` within [0, 1]: the coefficient is `low + (high − low) σ(η)`.
        entropy: weight of the entropy of σ in `penalty`.
        learned: False keeps η as it is.

    Calling it gives the coefficients `[T]`. They are left out of weight decay, which would pull them to 1/2.
    """

    no_weight_decay = True

    def __init__(
        self,
        T: int,
        init: float = 1.0,
        bounds: tuple[float, float] | None = None,
        entropy: float = 0.0,
        learned: bool = True,
    ) -> None:
        super().__init__()
        if not isinstance(T, int) or isinstance(T, bool) or T < 1:
            raise ArgumentError(f"T must be an integer of at least 1, got {T!r}")
        if not math.isfinite(init):
            raise ArgumentError(f"init must be finite, got {init!r}")
        if bounds is not None and (len(bounds) != 2 or not 0 <= bounds[0] < bounds[1] <= 1):
            raise ArgumentError(f"bounds must be (low, high) with 0 <= low < high <= 1, got {bounds!r}")
        if not 0 <= entropy < math.inf:
            raise ArgumentError(f"entropy must be a number of at least 0, got {entropy!r}")
        self.bounds = None if bounds is None else (float(bounds[0]), float(bounds[1]))
        self.entropy = float(entropy)
        self.eta = nn.Parameter(torch.full((T,), float(init)), requires_grad=learned)

    @classmethod
    def fixed(cls, T: int, value: float) -> TemporalCoefficients:
        """Coefficients that stay at `value` in [0, 1], in both terms of the loss."""
        if not 0 <= value <= 1:
            raise ArgumentError(f"value must lie in [0, 1], got {value!r}")
        made = cls(T, 0.0, learned=False)
        made.bounds = (value, value)
        return made

    def forward(self) -> Tensor:
        sigma = torch.sigmoid(self.eta)
        if self.bounds is None:
            return sigma
        low, high = self.bounds
        return low + (high - low) * sigma

    def penalty(self) -> Tensor:
        """Minus the mean entropy (in nats) of σ(η), times `entropy`; 0 without."""
        if not self.entropy:
            return self.eta.new_zeros(())
        chance = torch.sigmoid(self.eta)
        return -self.entropy * (chance * F.softplus(-self.eta) + (1 - chance) * F.softplus(self.eta)).mean()

    def extra_repr(self) -> str:
        return f"T={len(self.eta)}, bounds={self.bounds}, entropy={self.entropy:g}"
