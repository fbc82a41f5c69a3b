"""A readout neuron that only integrates."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ranvier.errors import ArgumentError, ShapeError
from ranvier.state import Stateful

_NOTHING = 1e-30  # a share of the past that no number format here would notice


class LeakyReadout(Stateful):
    """The membrane of a LIF neuron that never fires: `u[t] = (1 − 1/τ) · u[t − 1] + x[t]`, `[T, B, ...]` to the same.

    Args:
        tau: τ ≥ 1 in steps; 1 forgets at once.
    """

    def __init__(self, tau: float) -> None:
        super().__init__()
        if not isinstance(tau, int | float) or not math.isfinite(tau) or tau < 1:
            raise ArgumentError(f"tau must be a number >= 1 (in steps), got {tau!r}")
        self.tau = float(tau)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() < 2 or x.shape[0] == 0:
            raise ShapeError(f"LeakyReadout takes a sequence [T, B, ...] of at least one step, got {tuple(x.shape)}")
        keep = 1 - 1 / self.tau
        u = x.to(torch.promote_types(x.dtype, torch.float32))
        state = self.recall()
        if state is not None:
            before = self.fits(state, (x[0],))[0].to(u.dtype)
            u = torch.cat([u[:1] + keep * before, u[1:]])
        span = 1  # u[t] holds the sum over the last `span` steps; it doubles from pass to pass
        while span < len(u) and keep**span > _NOTHING:
            u = torch.cat([u[:span], u[span:] + keep**span * u[:-span]])
            span *= 2
        self.remember((u[-1],))
        return u.to(x.dtype)

    def extra_repr(self) -> str:
        return f"tau={self.tau:g}"
