"""Shared linear layers with norms, residuals behind the neuron, and the lookup that replaces the first layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import _get_current_dispatch_mode

from ranvier.neurons import NeuronFactory

Order = Literal["post", "pre", "none"]

# Parametric LIF as it was run: initial tau 2, the input not scaled by it, arctangent surrogate, reset in the gradient.
PLIF: Mapping[str, Any] = {
    "type": "plif", "tau": 2.0, "decay_input": False, "detach_reset": False,
    "surrogate": {"type": "atan", "alpha": 2.0},
}  # fmt: skip


class LinearNorm(nn.Module):
    """The same linear layer (with bias) for every point, then batch norm over all points and steps."""

    def __init__(self, in_channels: int, out_channels: int, affine: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(in_channels, out_channels)
        self.norm = nn.BatchNorm1d(out_channels, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        """`[..., C_in]` to `[..., C_out]`."""
        y = self.linear(x)
        return self.norm(y.flatten(0, -2)).view(y.shape)


class CodeLookup(LinearNorm):
    """`LinearNorm` for inputs of a few bits: a table of its 2^C_in possible outputs, and a lookup for every point.

    Input codes (int64, bit i is channel i) instead of spikes. The statistics of the norm come from how often each code
    occurs, so that result and gradients are those of `LinearNorm` on the unpacked spikes.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels)
        self.bits: Tensor
        codes = torch.arange(1 << in_channels)[:, None] >> torch.arange(in_channels)
        self.register_buffer("bits", (codes & 1).to(torch.get_default_dtype()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Codes `[...]` to `[..., C_out]`; spikes or real values `[..., C_in]` of a floating dtype as `LinearNorm`."""
        if x.is_floating_point():
            return super().forward(x)
        if _get_current_dispatch_mode() is not None:  # a meter wants to see the layer itself; the result is the same
            return super().forward(unpack_bits(x, self.bits.shape[1], self.linear.weight.dtype))
        table = self.linear(self.bits.to(self.linear.weight.dtype))
        norm = self.norm
        if norm.training or norm.running_mean is None:
            count = torch.bincount(x.flatten(), minlength=len(table)).to(table.dtype)
            share = count / x.numel()
            mean = share @ table
            var = share @ (table - mean).square()
            self._update(mean.detach(), var.detach() * (x.numel() / max(1, x.numel() - 1)))
        else:
            assert norm.running_var is not None
            mean, var = norm.running_mean, norm.running_var
        table = (table - mean) * (var + norm.eps).rsqrt() * norm.weight + norm.bias
        return F.embedding(x, table)

    @torch.no_grad()
    def _update(self, mean: Tensor, var: Tensor) -> None:
        norm = self.norm
        if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
            return
        norm.num_batches_tracked.add_(1)
        momentum = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
        norm.running_mean.lerp_(mean, momentum)
        norm.running_var.lerp_(var, momentum)


def unpack_bits(codes: Tensor, channels: int, dtype: torch.dtype) -> Tensor:
    """The inverse of `pack_bits`."""
    return ((codes[..., None] >> torch.arange(channels, device=codes.device)) & 1).to(dtype)


def pack_bits(spikes: Tensor) -> Tensor:
    """Binary spikes `[..., C]` as codes int64 `[...]`, channel i in bit i."""
    return (spikes.to(torch.int64) << torch.arange(spikes.shape[-1], device=spikes.device)).sum(-1)


class ResF(nn.Module):
    """`out = PLIF(I) + S` with `I = LinearNorm(S)`, through half the channels when `bottleneck`.

    The residual behind the neuron passes gradients with factor one; outputs are 0, 1 or 2. `order="pre"` is the
    conventional `PLIF(I + S)`, "none" leaves the residual out.
    """

    def __init__(self, channels: int, make: NeuronFactory, bottleneck: bool = False, order: Order = "post") -> None:
        super().__init__()
        inner = channels // 2 if bottleneck else channels
        self.first = nn.Sequential(LinearNorm(channels, inner), make(channel_axis=-1)) if bottleneck else None
        self.last = LinearNorm(inner, channels)
        self.neuron = make(channel_axis=-1)
        self.order = order

    def forward(self, s: Tensor) -> Tensor:
        """Spikes `[T, B, ..., C]` to the same shape."""
        current = self.last(s if self.first is None else self.first(s))
        if self.order == "pre":
            return self.neuron(current + s)
        spikes = self.neuron(current)
        return spikes if self.order == "none" else spikes + s
