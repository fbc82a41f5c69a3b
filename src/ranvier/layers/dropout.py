"""Dropout of sequences: what is dropped is dropped for the whole sequence."""

from __future__ import annotations

import torch
from torch import Tensor

from ranvier.errors import ArgumentError, ShapeError
from ranvier.state import Stateful


class SequenceDropout(Stateful):
    """Dropout on `[T, B, ...]` with one mask a sequence, the same at every step; survivors are scaled by 1/(1 − p).

    The mask is drawn anew at every call, and in a carried stream once.

    Args:
        p: probability of dropping, in [0, 1).
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not isinstance(p, int | float) or not 0 <= p < 1:
            raise ArgumentError(f"dropout must be a probability in [0, 1), got {p!r}")
        self.p = float(p)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() < 2:
            raise ShapeError(f"SequenceDropout takes a sequence [T, B, ...], got shape {tuple(x.shape)}")
        if not self.training or not self.p:
            return x
        state = self.recall()
        if state is None:
            mask = (torch.rand(x.shape[1:], device=x.device) >= self.p).to(x.dtype) / (1 - self.p)
        else:
            mask = self.fits(state, (x[0],))[0]
        self.remember((mask,))
        return x * mask

    def extra_repr(self) -> str:
        return f"p={self.p:g}"
