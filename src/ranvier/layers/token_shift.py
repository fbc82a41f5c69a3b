"""The token before: the smallest memory of a sequence."""

from __future__ import annotations

import torch
from torch import Tensor

from ranvier.errors import ShapeError
from ranvier.state import Stateful


class TokenShift(Stateful):
    """`[T, B, ...]` a step later: `y_t = x_{t−1}`, `y_0 = 0`, or the last step of the chunk before inside `carry`."""

    def forward(self, x: Tensor) -> Tensor:
        """`x` moved by one step; the last step is kept for the next chunk of a stream."""
        if x.dim() < 2 or x.shape[0] == 0:
            raise ShapeError(f"TokenShift needs a sequence [T, B, ...] of at least one step, got {tuple(x.shape)}")
        state = self.recall()
        first = torch.zeros_like(x[:1])
        if state is not None:
            first = self.fits(state, (x[0],))[0].to(x.dtype).unsqueeze(0)
        self.remember((x[-1],))
        return torch.cat([first, x[:-1]], 0)


def token_mix(x: Tensor, shifted: Tensor, share: Tensor) -> Tensor:
    """`share · x + (1 − share) · shifted`, channel by channel."""
    return torch.lerp(shifted, x, share.to(x.dtype))
