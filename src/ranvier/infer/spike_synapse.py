"""The synaptic layer of a converted net: binary spikes in, scale and bias once."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError
from ranvier.infer.counts import Counts
from ranvier.layers.quant import IntSynapse, fold_bn
from ranvier.layers.quant.integer import Synapse


class SpikeSynapse(nn.Module):
    """`scale ⊙ Σ_d synapse(slot d) + bias`: a convolution or linear layer that is run on binary virtual steps.

    `synapse` is a plain layer without bias, which sees nothing but zeros and ones where counts or spikes enter.
    Anything else, such as the analog image in front of the first layer, goes through it once.

    Args:
        layer: a convolution, linear layer or `IntSynapse`; the latter leaves its integers in `synapse`.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.scale: Tensor | None
        self.bias: Tensor | None
        self.bits: int | None = None
        self.trailing = 0
        if isinstance(layer, IntSynapse):
            weight, scale, bias, self.bits = layer.levels, layer.scale, layer.bias, layer.bits
            self.synapse = _bare(layer)
            self.synapse.weight.data = weight.to(scale.dtype)
        elif isinstance(layer, Synapse):
            weight, scale, bias = layer.weight, None, layer.bias
            self.synapse = _bare(layer)
            self.synapse.weight.data = weight.detach().clone()
        else:
            raise ArgumentError(f"only convolutions and linear layers take spikes, got {type(layer).__name__}")
        self.trailing = weight.dim() - 2
        self.register_buffer("scale", None if scale is None else scale.detach().clone())
        self.register_buffer("bias", None if bias is None else bias.detach().clone())
        self.synapse.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(x, Counts):
            total, scale = x.summed(self.synapse), x.scale
        else:
            total, scale = self.synapse(x), 1.0
        shape = (-1, *[1] * self.trailing)
        if self.scale is not None:
            total = total * (self.scale * scale).view(shape)
        elif scale != 1:
            total = total * scale
        return total if self.bias is None else total + self.bias.view(shape)

    def extra_repr(self) -> str:
        return "float weights" if self.bits is None else f"{self.bits}-bit integer weights"


def _bare(layer: nn.Module) -> Synapse:
    """A layer of the same geometry without bias."""
    if isinstance(layer, IntSynapse):
        out_features, in_features, *kernel = layer.levels.shape
        place = {"device": layer.levels.device, "dtype": layer.scale.dtype}
        if layer.conv is None:
            return nn.Linear(in_features, out_features, bias=False, **place)
        stride, padding, dilation, groups = layer.conv
        kind = nn.Conv1d if len(kernel) == 1 else nn.Conv2d
        return kind(
            in_features * groups, out_features, tuple(kernel), stride, padding, dilation, groups, False, **place  # pyright: ignore[reportArgumentType]
        )  # fmt: skip
    bare = fold_bn(layer, None)
    assert isinstance(bare, Synapse)
    bare.register_parameter("bias", None)
    return bare


@torch.no_grad()
def requantize(layer: nn.Module, bits: int) -> nn.Module:
    """`layer` with weights of `bits` bits, one step an output channel, each chosen to lose the least (mean square).

    For a kernel that merging has made of several quantised ones, and which no longer has their few levels.
    """
    if isinstance(layer, IntSynapse):
        return layer
    if not isinstance(layer, Synapse) or bits < 2:
        raise ArgumentError(
            f"bits: requantizing takes 2 to 8 bits and a float layer, got {bits} and {type(layer).__name__}"
        )
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    rows = layer.weight.flatten(1)
    largest = rows.abs().amax(1, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny)
    best, loss = largest / high, torch.full_like(largest, torch.inf)
    for share in torch.linspace(0.3, 1.0, 36).tolist():
        step = share * largest / high
        error = ((rows / step).clamp(low, high).round() * step - rows).square().sum(1, keepdim=True)
        best, loss = torch.where(error < loss, step, best), torch.minimum(error, loss)
    levels = (rows / best).clamp(low, high).round().to(torch.int8).view_as(layer.weight)
    return IntSynapse(layer, levels, best.flatten(), layer.bias, bits)
