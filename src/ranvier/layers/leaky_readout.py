"""A readout neuron that only integrates."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ranvier.errors import ArgumentError, ShapeError
from ranvier.state import Stateful

_CHUNK = 128  # steps of one triangular product


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
        state = self.recall()
        u = None if state is None else self.fits(state, (x[0],))[0]
        work = torch.promote_types(x.dtype, torch.float32)
        parts: list[Tensor] = []
        for part in x.to(work).split(_CHUNK):
            age = torch.arange(len(part), device=x.device, dtype=torch.float64)
            decays = torch.where(age[:, None] >= age, keep ** (age[:, None] - age).clamp_min(0), 0.0).to(work)
            y = (decays @ part.flatten(1)).view_as(part)
            if u is not None:
                y = y + (keep ** (age + 1)).to(work).view(-1, *[1] * (x.dim() - 1)) * u.to(work)
            parts.append(y)
            u = y[-1]
        assert u is not None
        self.remember((u,))
        return (parts[0] if len(parts) == 1 else torch.cat(parts)).to(x.dtype)

    def extra_repr(self) -> str:
        return f"tau={self.tau:g}"
