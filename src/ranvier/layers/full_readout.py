"""A learned weight for every token and every step: the full-size readout of SGLFormer."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ranvier.errors import ShapeError
from ranvier.state import Stateful


class FullReadout(Stateful):
    """Depth-wise sum over all tokens and steps, then batch norm: `BN(b + Σ_t Σ_n w[c, n, t] x[t, b, c, n])`.

    Returned step by step, `[T, B, C]`: what step t contributes, times T, so that the mean over T is the value of the
    publication (Zhang et al., SGLFormer, Front. Neurosci. 2024) and, in evaluation mode, every step needs nothing but
    itself. A sequence of another length, or a stream, uses the weights of step t mod T. A training batch of one sample
    has no statistics and is normalised with the running ones.

    Args:
        dim: channels C.
        tokens: N, height times width of the map that comes in.
        steps: T.
    """

    def __init__(self, dim: int, tokens: int, steps: int) -> None:
        super().__init__()
        self.tokens, self.steps = tokens, steps
        self.weight = nn.Parameter(torch.empty(dim, 1, tokens, steps))
        self.bias = nn.Parameter(torch.empty(dim))
        self.bn = nn.BatchNorm1d(dim)
        bound = 1 / math.sqrt(tokens * steps)  # PyTorch's start of a depth-wise convolution
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(3)
        if x.shape[3] != self.tokens:
            raise ShapeError(f"FullReadout has weights for {self.tokens} tokens, got input of shape {tuple(x.shape)}")
        parts = self._contributions(x) * self.steps
        if not self.training or x.shape[1] == 1:
            return self._normalised(parts + self.bias)
        mean = parts.mean(0)
        total = mean + self.bias
        scale = self.bn.weight * (total.var(0, unbiased=False) + self.bn.eps).rsqrt()
        return self.bn(total) + scale * (parts - mean)

    def _contributions(self, x: Tensor) -> Tensor:
        """`[T, B, C]`: the weighted sum over the tokens of every step."""
        weight = self.weight.squeeze(1).permute(2, 0, 1)  # [T, C, N]
        steps = torch.arange(x.shape[0], device=x.device)
        state = self.recall()
        if state is None and self._carried is None:
            return torch.einsum("tbcn,tcn->tbc", x, weight[steps % self.steps])
        start = steps.new_zeros(x.shape[1])
        if state is not None:
            (start,) = self.fits(state, (start,))
        self.remember((start + len(steps),))
        return torch.einsum("tbcn,tbcn->tbc", x, weight[(steps[:, None] + start) % self.steps])

    def _normalised(self, x: Tensor) -> Tensor:
        bn = self.bn
        y = F.batch_norm(
            x.flatten(0, 1), bn.running_mean, bn.running_var, bn.weight, bn.bias, False, 0.0, bn.eps
        )  # fmt: skip
        return y.view_as(x)
