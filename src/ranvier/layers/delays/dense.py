"""A free weight at every delay: what learned delays replace, and their control."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError, ShapeError, StateError
from ranvier.layers.delays import execute
from ranvier.layers.delays.kernel import check_max_delay
from ranvier.state import Stateful


class DenseDelayLinear(Stateful):
    """`y[t, o] = Σ_i Σ_d w[o, i, d] · x[t − d, i]`: a convolution over time with O · I · (max_delay + 1) weights.

    Args:
        in_features, out_features, max_delay, tail: as in `DelayLinear`.
        bias: add a learned constant to every output.

    Attributes:
        weight: `[O, I, K]`, tap n at delay K − 1 − n.
    """

    def __init__(self, in_features: int, out_features: int, max_delay: int, tail: int = 0, bias: bool = False) -> None:
        super().__init__()
        check_max_delay(max_delay)
        if in_features < 1 or out_features < 1 or tail < 0:
            raise ArgumentError(
                f"in_features and out_features must be >= 1 and tail >= 0, got {in_features}, {out_features}, {tail}"
            )
        self.in_features, self.out_features, self.max_delay, self.tail = in_features, out_features, max_delay, tail
        bound = math.sqrt(6 / (in_features * (max_delay + 1)))
        self.weight = nn.Parameter(torch.empty(out_features, in_features, max_delay + 1).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None

    def kernel(self) -> Tensor:
        """The weights themselves, `[O, I, K]`."""
        return self.weight

    def forward(self, x: Tensor) -> Tensor:
        """`[T, B, I]` to `[T + tail, B, O]`; errors as in `DelayLinear`."""
        if x.dim() != 3 or x.shape[2] != self.in_features or x.shape[0] == 0:
            raise ShapeError(
                f"DenseDelayLinear takes a sequence [T, B, {self.in_features}] with at least one step, got shape "
                f"{tuple(x.shape)}"
            )
        if self._carried is not None and self.tail:
            raise StateError(f"tail={self.tail} appends steps to the end of a sequence; to stream, set tail = 0")
        if self.tail:
            x = torch.cat([x, x.new_zeros((self.tail, *x.shape[1:]))])
        state = self.recall()
        if state is not None:
            expected = x.new_empty((x.shape[1], self.max_delay, self.in_features), device="meta")
            state = self.fits(state, (expected,))
        y, state = execute.dense(x, self.weight.permute(2, 0, 1).contiguous(), state, False, "auto", 1)
        self.remember(state)
        return y if self.bias is None else y + self.bias

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, max_delay={self.max_delay}"
