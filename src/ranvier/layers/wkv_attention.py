"""WKV with its learned decay and bonus, as a stateful layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ranvier.ops.wkv import empty_state, wkv
from ranvier.state import Stateful


class WKV(Stateful):
    """The linear attention of RWKV-4 over `[T, B, C]`; state: two sums and their exponent for every channel.

    Attributes:
        time_decay: w̃ `[C]`; the log of the decay of a token is −e^w̃.
        time_first: u `[C]`, the bonus of the present token.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.time_decay = nn.Parameter(torch.zeros(channels))
        self.time_first = nn.Parameter(torch.zeros(channels))

    def forward(self, k: Tensor, v: Tensor) -> Tensor:
        """The weighted mean of the values so far, `[T, B, C]`, for keys and values of that shape."""
        state = self.recall()
        if state is not None:
            state = self.fits(state, empty_state(k[0]))
            state = (state[0], state[1], state[2])
        work = torch.float64 if k.dtype == torch.float64 else torch.float32
        y, state = wkv(-torch.exp(self.time_decay.to(work)), self.time_first.to(work), k, v, state)
        self.remember(state)
        return y
