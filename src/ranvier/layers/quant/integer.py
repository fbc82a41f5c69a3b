"""Weights as integers: layers that multiply with them, folding of batch norms, export."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ranvier.errors import ArgumentError
from ranvier.layers.quant.qat import quantized_layers
from ranvier.layers.quant.synapse import QuantSynapse
from ranvier.layers.rep_conv import norm_affine, spread

Synapse = nn.Conv1d | nn.Conv2d | nn.Linear


class IntSynapse(nn.Module):
    """A convolution or linear layer with integer weights: `scale ⊙ (W_int x) + bias`, scale and bias a channel.

    `levels` are W_int in int8, `[out, in/groups, ...]`; on counts or spikes the sum inside the brackets is an integer.
    """

    def __init__(self, like: Synapse, levels: Tensor, scale: Tensor, bias: Tensor | None, bits: int) -> None:
        super().__init__()
        self.levels: Tensor
        self.scale: Tensor
        self.bias: Tensor | None
        self.register_buffer("levels", levels)
        self.register_buffer("scale", scale.clone())
        self.register_buffer("bias", None if bias is None else bias.clone())
        self.bits = bits
        self.conv: tuple[Any, Any, Any, int] | None = None
        if not isinstance(like, nn.Linear):
            if like.padding_mode != "zeros":
                raise ArgumentError(f"only padding with zeros is possible here, got padding_mode={like.padding_mode!r}")
            self.conv = (like.stride, like.padding, like.dilation, like.groups)

    def accumulate(self, x: Tensor) -> Tensor:
        """`W_int x`."""
        weight = self.levels.to(x.dtype)
        if self.conv is None:
            return F.linear(x, weight)
        return (F.conv1d if weight.dim() == 3 else F.conv2d)(x, weight, None, *self.conv)

    def rescale(self, y: Tensor) -> Tensor:
        """`scale ⊙ y + bias`; the channels are the last axis of a linear layer, else those before the grid."""
        trailing = 0 if self.conv is None else self.levels.dim() - 2
        shape = (-1, *[1] * trailing)
        y = y * self.scale.to(y.dtype).view(shape)
        return y if self.bias is None else y + self.bias.to(y.dtype).view(shape)

    def forward(self, x: Tensor) -> Tensor:
        return self.rescale(self.accumulate(x))

    def extra_repr(self) -> str:
        return f"{list(self.levels.shape)}, bits={self.bits}, bias={self.bias is not None}"


@torch.no_grad()
def fold_bn(synapse: nn.Module, bn: nn.Module | None) -> nn.Module:
    """`bn(synapse(x))` of evaluation as one layer of the same kind.

    Args:
        synapse: a convolution or linear layer; a quantised one keeps its integers (the batch norm goes into scale and
            bias) and becomes an `IntSynapse`.
        bn: a batch norm over its output channels, or None for the layer alone.
    """
    if isinstance(synapse, IntSynapse):
        if bn is None:
            return synapse
        g, b = norm_affine(_norm(bn))
        bias = b if synapse.bias is None else synapse.bias * g + b
        folded = IntSynapse.__new__(IntSynapse)
        nn.Module.__init__(folded)
        for name, value in (("levels", synapse.levels), ("scale", synapse.scale * g), ("bias", bias)):
            folded.register_buffer(name, value)
        folded.bits, folded.conv = synapse.bits, synapse.conv
        return folded
    if not isinstance(synapse, Synapse):
        raise ArgumentError(f"only convolutions and linear layers take a batch norm in, got {type(synapse).__name__}")
    g, b = (None, None) if bn is None else norm_affine(_norm(bn))
    bias = synapse.bias
    if g is not None and b is not None:
        bias = b if bias is None else bias * g + b
    if isinstance(synapse, QuantSynapse):
        levels, step = synapse.quantizer.integers(synapse.weight)
        return IntSynapse(synapse, levels, step if g is None else step * g, bias, synapse.quantizer.bits)  # pyright: ignore[reportArgumentType]
    made = _empty_like(synapse, bias is not None)
    made.weight.copy_(synapse.weight if g is None else synapse.weight * spread(g, synapse.weight))
    if bias is not None:
        assert made.bias is not None
        made.bias.copy_(bias)
    return made


def _norm(bn: nn.Module) -> nn.BatchNorm1d | nn.BatchNorm2d:
    if not isinstance(bn, nn.BatchNorm1d | nn.BatchNorm2d) or bn.running_mean is None:
        raise ArgumentError(f"bn must be a batch norm with running statistics, got {type(bn).__name__}")
    return bn


def _empty_like(layer: Synapse, bias: bool) -> Synapse:
    place = {"device": layer.weight.device, "dtype": layer.weight.dtype}
    if isinstance(layer, nn.Linear):
        made: Synapse = nn.Linear(layer.in_features, layer.out_features, bias, **place)
    else:
        kind = nn.Conv1d if isinstance(layer, nn.Conv1d) else nn.Conv2d
        made = kind(
            layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding, layer.dilation,  # pyright: ignore[reportArgumentType]
            layer.groups, bias, layer.padding_mode, **place,  # pyright: ignore[reportArgumentType]
        )  # fmt: skip
    return made.requires_grad_(layer.weight.requires_grad)


@dataclass(frozen=True)
class IntWeights:
    """The weight of one layer: `levels * scale` is what it multiplies with; `packed_bytes` is its size in storage."""

    levels: Tensor
    scale: Tensor
    bias: Tensor | None
    bits: int

    @property
    def packed_bytes(self) -> int:
        """Bytes of the packed levels, the steps and the bias (float32)."""
        rest = self.scale.numel() + (0 if self.bias is None else self.bias.numel())
        return -(-self.levels.numel() * self.bits // 8) + 4 * rest


@torch.no_grad()
def export_int(model: nn.Module) -> dict[str, IntWeights]:
    """The integer weights of every quantised layer of `model` (or `IntSynapse`), by name."""
    found: dict[str, IntWeights] = {}
    for name, layer in quantized_layers(model).items():
        levels, step = layer.quantizer.integers(layer.weight)
        bias = getattr(layer, "bias", None)
        found[name] = IntWeights(levels, step.clone(), None if bias is None else bias.detach(), layer.quantizer.bits)
    for name, layer in model.named_modules():
        if isinstance(layer, IntSynapse):
            found[name] = IntWeights(layer.levels, layer.scale, layer.bias, layer.bits)
    return found


def pack_levels(levels: Tensor, bits: int) -> Tensor:
    """Signed integers of `bits` = 1, 2, 4 or 8 bits, packed into bytes (uint8), the first in the lowest bits.

    One-bit levels are ±1. `unpack_levels` is the inverse.
    """
    if bits not in (1, 2, 4, 8):
        raise ArgumentError(f"bits must be 1, 2, 4 or 8 to fill bytes, got {bits!r}")
    flat = levels.flatten().to(torch.int16)
    flat = (flat > 0).to(torch.int16) if bits == 1 else flat & (2**bits - 1)
    each = 8 // bits
    flat = F.pad(flat, (0, -flat.numel() % each)).view(-1, each)
    shifts = torch.arange(each, device=flat.device, dtype=torch.int16) * bits
    return (flat << shifts).sum(1).to(torch.uint8)


def unpack_levels(packed: Tensor, bits: int, shape: tuple[int, ...]) -> Tensor:
    """The int8 tensor of `shape` that `pack_levels` packed."""
    each = 8 // bits
    shifts = torch.arange(each, device=packed.device, dtype=torch.int16) * bits
    flat = ((packed.to(torch.int16)[:, None] >> shifts) & (2**bits - 1)).flatten()[: torch.Size(shape).numel()]
    flat = flat * 2 - 1 if bits == 1 else torch.where(flat >= 2 ** (bits - 1), flat - 2**bits, flat)
    return flat.to(torch.int8).view(shape)


@dataclass(frozen=True)
class WeightSize:
    """What the weights of a net take.

    `params`: all that trains, without quantiser steps; `steps`: those; `equivalent`: weights times bits over 32, the
    "parameters" that publications on quantised nets print; `bytes`: levels packed, everything else in float32.
    """

    params: int
    steps: int
    equivalent: float
    bytes: int


def weight_size(model: nn.Module) -> WeightSize:
    """Count the weights of `model`, quantised or not; works on the meta device."""
    layers = quantized_layers(model)
    steps = sum(q.quantizer.alpha.numel() for q in layers.values() if q.quantizer.alpha is not None)
    total = sum(p.numel() for p in model.parameters() if p.requires_grad)
    quantised = {id(q.weight): q.quantizer.bits for q in layers.values()}
    weights = {id(p): p for p in model.parameters() if p.dim() > 1 or id(p) in quantised}
    equivalent = sum(p.numel() * quantised.get(i, 32) / 32 for i, p in weights.items())
    packed = sum(-(-q.weight.numel() * q.quantizer.bits // 8) for q in layers.values())
    rest = total - sum(q.weight.numel() for q in layers.values())
    return WeightSize(total - steps, steps, equivalent, packed + 4 * rest)
