"""Layers without neurons as nodes of NIR: weights with folded norms, delays, pooling."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError
from ranvier.extras import require
from ranvier.infer.exchange.pieces import Array, Piece, array
from ranvier.layers.delays import DelayConv2d, DelayLinear, DenseDelayLinear

WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, DelayLinear, DenseDelayLinear, DelayConv2d)


@dataclass
class Scaling:
    """An affine map of the outputs of a layer, channel by channel, in float64: `gain · y + offset`."""

    gain: Tensor
    offset: Tensor

    @classmethod
    def none(cls, channels: int) -> Scaling:
        """The one that changes nothing."""
        return cls(torch.ones(channels, dtype=torch.float64), torch.zeros(channels, dtype=torch.float64))

    def then(self, gain: Tensor | float, offset: Tensor | float = 0.0) -> Scaling:
        """This one followed by another."""
        return Scaling(self.gain * gain, self.offset * gain + offset)


def norm_scaling(norm: nn.BatchNorm1d | nn.BatchNorm2d, layer: str) -> tuple[Tensor, Tensor]:
    """Gain and offset of a batch norm in eval mode, in float64."""
    if norm.running_mean is None or norm.running_var is None:
        raise ArgumentError(f"layer {layer!r} normalises by the statistics of the batch, which no graph can say")
    deviation = (norm.running_var.detach().double() + norm.eps).sqrt()
    gain = (torch.ones_like(deviation) if norm.weight is None else norm.weight.detach().double()) / deviation
    offset = 0.0 if norm.bias is None else norm.bias.detach().double()
    return gain, offset - norm.running_mean.detach().double() * gain


def synapse_piece(
    name: str, layer: str, module: nn.Module, before: tuple[int, ...], scaling: Scaling, dt: float
) -> Piece:
    """The nodes of a layer with weights whose outputs are scaled by `scaling`; a bias is always written."""
    nir: Any = require("nir", extra="export")
    if isinstance(module, nn.Linear):
        if len(before) != 1:
            raise ArgumentError(f"layer {layer!r} works on the last axis of {before}; NIR's Affine takes a vector")
        return Piece.chain({name: nir.Affine(*_scaled(module.weight, module.bias, scaling))})
    if isinstance(module, nn.Conv1d | nn.Conv2d):
        return Piece.chain({name: _convolution(layer, module, module.weight, before, scaling, nir)})
    if isinstance(module, DelayConv2d):
        return _delayed_convolution(name, module, before, scaling, dt, nir)
    assert isinstance(module, DelayLinear | DenseDelayLinear)
    return _delayed(name, module, scaling, dt, nir)


def out_channels(module: nn.Module) -> int:
    """Channels of the output of a layer with weights."""
    if isinstance(module, nn.Conv1d | nn.Conv2d):
        return module.out_channels
    if isinstance(module, DelayConv2d):
        return module.synapses.out_features
    return module.out_features  # pyright: ignore[reportReturnType]


def _scaled(weight: Tensor, bias: Tensor | None, scaling: Scaling) -> tuple[Array, Array]:
    gain, offset = scaling.gain.to(weight.device), scaling.offset.to(weight.device)
    shaped = weight.detach().double() * gain.reshape(-1, *[1] * (weight.dim() - 1))
    shift = offset if bias is None else bias.detach().double() * gain + offset
    return array(shaped.to(weight.dtype)), array(shift.to(weight.dtype))


def _convolution(
    layer: str, module: nn.Conv1d | nn.Conv2d, weight: Tensor, before: tuple[int, ...], scaling: Scaling, nir: Any
) -> Any:
    if module.padding_mode != "zeros":
        raise ArgumentError(f"layer {layer!r} pads by {module.padding_mode!r}; NIR pads with zeros")
    w, b = _scaled(weight, module.bias, scaling)
    if isinstance(module, nn.Conv1d):
        padding: Any = module.padding if isinstance(module.padding, str) else int(module.padding[0])
        return nir.Conv1d(
            input_shape=before[1], weight=w, stride=int(module.stride[0]), padding=padding,
            dilation=int(module.dilation[0]), groups=module.groups, bias=b,
        )  # fmt: skip
    pads: Any = module.padding if isinstance(module.padding, str) else tuple(int(p) for p in module.padding)
    return nir.Conv2d(
        input_shape=(before[1], before[2]), weight=w, stride=tuple(module.stride), padding=pads,
        dilation=tuple(module.dilation), groups=module.groups, bias=b,
    )  # fmt: skip


def delay_taps(module: DelayLinear | DenseDelayLinear) -> Tensor:
    """Weights `[O, I, K]` at every delay 0..K − 1 (tap d is delay d), groups written out, in float64."""
    training = module.training
    with torch.no_grad():
        kernel = module.eval().kernel().detach().double().flip(2)
    module.train(training)
    groups = module.groups if isinstance(module, DelayLinear) else 1
    if groups == 1:
        return kernel
    full = kernel.new_zeros(kernel.shape[0], kernel.shape[1] * groups, kernel.shape[2])
    for g, block in enumerate(kernel.chunk(groups)):
        o, i = g * block.shape[0], g * block.shape[1]
        full[o : o + block.shape[0], i : i + block.shape[1]] = block
    return full


def _delayed(name: str, module: DelayLinear | DenseDelayLinear, scaling: Scaling, dt: float, nir: Any) -> Piece:
    """A line for each pair of input and delay that a synapse uses; then the weights, `Linear → Delay → Affine`."""
    taps = delay_taps(module)
    used = (taps != 0).any(0)  # [I, K]
    if not bool(used.any()):
        used[:, 0] = True
    lines = used.nonzero()  # in the order of inputs, then delays
    source, delay = lines[:, 0], lines[:, 1]
    weight, bias = _scaled(taps[:, source, delay].to(module.weight.dtype), module.bias, scaling)
    nodes: dict[str, Any] = {}
    each_once = len(source) == taps.shape[1] and bool((source == torch.arange(len(source))).all())
    if not each_once:
        fan = torch.zeros(len(source), taps.shape[1], dtype=module.weight.dtype)
        fan[torch.arange(len(source)), source] = 1
        nodes[f"{name}_lines"] = nir.Linear(weight=array(fan))
    if bool((delay != 0).any()):
        nodes[f"{name}_delay"] = nir.Delay(delay=delay.numpy().astype(np.float64) * dt)
    nodes[name] = nir.Affine(weight=weight, bias=bias)
    return Piece.chain(nodes)


def _delayed_convolution(
    name: str, module: DelayConv2d, before: tuple[int, ...], scaling: Scaling, dt: float, nir: Any
) -> Piece:
    """A copy of every channel for each delay that it is read at; then one convolution."""
    inner, (channels, height, width) = module.synapses, before
    taps = delay_taps(inner).unflatten(1, (channels, module.kernel_size, module.kernel_size))  # [O, C, k, k, K]
    used = (taps != 0).any(0).flatten(1, 2).any(1)  # [C, K]
    if not bool(used.any()):
        used[:, 0] = True
    lines = used.nonzero()
    source, delay = lines[:, 0], lines[:, 1]
    dtype = inner.weight.dtype
    fan = torch.zeros(len(source), channels, 1, 1, dtype=dtype)
    fan[torch.arange(len(source)), source] = 1
    weight, bias = _scaled(taps[:, source, :, :, delay].movedim(0, 1).to(dtype), inner.bias, scaling)
    here = np.broadcast_to(delay.numpy().astype(np.float64)[:, None, None] * dt, (len(source), height, width))
    plain = {"dilation": (1, 1), "groups": 1, "input_shape": (height, width)}
    return Piece.chain({
        f"{name}_lines": nir.Conv2d(
            weight=array(fan), bias=np.zeros(len(source), array(fan).dtype), stride=(1, 1), padding=(0, 0), **plain
        ),
        f"{name}_delay": nir.Delay(delay=np.array(here)),
        name: nir.Conv2d(
            weight=weight, bias=bias, stride=(module.stride,) * 2, padding=(module.padding,) * 2, **plain
        ),
    })  # fmt: skip


def norm_piece(name: str, before: tuple[int, ...], gain: Tensor, offset: Tensor, dtype: torch.dtype) -> Piece:
    """A batch norm that follows nothing it could fold into: a diagonal layer of its own."""
    nir: Any = require("nir", extra="export")
    bias = array(offset.to(dtype))
    if len(before) == 1:
        return Piece.chain({name: nir.Affine(weight=array(torch.diag(gain).to(dtype)), bias=bias)})
    kernel = array(gain.to(dtype).reshape(-1, *[1] * len(before)))
    if len(before) == 2:
        node = nir.Conv1d(before[1], kernel, stride=1, padding=0, dilation=1, groups=before[0], bias=bias)
    else:
        node = nir.Conv2d(before[1:], kernel, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=before[0],
                          bias=bias)  # fmt: skip
    return Piece.chain({name: node})


def pool_piece(
    name: str, layer: str, module: nn.Module, before: tuple[int, ...], after: tuple[int, ...], binary: bool,
    as_convolution: bool,
) -> Piece:  # fmt: skip
    """Average pooling, `as_convolution` for readers without it; max pooling of spikes as a sum and a threshold."""
    nir: Any = require("nir", extra="export")
    if isinstance(module, nn.AdaptiveAvgPool2d):
        if after[1] == 0 or before[1] % after[1] or before[2] % after[2]:
            raise ArgumentError(f"layer {layer!r} averages {before[1:]} to {after[1:]} in windows of different sizes")
        kernel = stride = (before[1] // after[1], before[2] // after[2])
        padding = (0, 0)
    else:
        assert isinstance(module, nn.AvgPool2d | nn.MaxPool2d)
        kernel, stride, padding = (_pair(v) for v in (module.kernel_size, module.stride, module.padding))
        if module.ceil_mode:
            raise ArgumentError(f"layer {layer!r} pools with ceil_mode, which NIR does not have")
    window = {"kernel_size": np.array(kernel), "stride": np.array(stride), "padding": np.array(padding)}
    if isinstance(module, nn.MaxPool2d):
        if not binary or _pair(module.dilation) != (1, 1):
            raise ArgumentError(
                f"layer {layer!r} takes the maximum of {'spikes with a dilation' if binary else 'real values'}; NIR "
                "has no maximum, and only a maximum of spikes is a sum with a threshold"
            )
        return Piece.chain({
            f"{name}_sum": nir.SumPool2d(**window), name: nir.Threshold(threshold=np.full(after, 0.5, np.float32))
        })  # fmt: skip
    if isinstance(module, nn.AvgPool2d) and (
        module.divisor_override is not None or (not module.count_include_pad and any(padding))
    ):
        raise ArgumentError(f"layer {layer!r} divides by something else than its window, which NIR does not have")
    if as_convolution:
        return Piece.chain({name: averaging(before, kernel, stride, padding, nir)})
    return Piece.chain({name: nir.AvgPool2d(**window)})


def averaging(
    before: tuple[int, ...], kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int], nir: Any
) -> Any:
    """Average pooling as a convolution that keeps channels apart."""
    weight = np.zeros((before[0], before[0], *kernel), np.float32)
    weight[np.arange(before[0]), np.arange(before[0])] = 1 / (kernel[0] * kernel[1])
    return nir.Conv2d(
        before[1:], weight, stride=stride, padding=padding, dilation=(1, 1), groups=1,
        bias=np.zeros(before[0], np.float32),
    )  # fmt: skip


def ungrouped(node: Any) -> Any:
    """A grouped convolution with the zeros between its groups written out."""
    groups = int(node.groups)
    if groups == 1:
        return node
    weight = node.weight
    full = np.zeros((weight.shape[0], weight.shape[1] * groups, *weight.shape[2:]), weight.dtype)
    for g, block in enumerate(np.split(weight, groups)):
        o, i = g * block.shape[0], g * block.shape[1]
        full[o : o + block.shape[0], i : i + block.shape[1]] = block
    return replace(node, weight=full, groups=1)


def _pair(value: Any) -> tuple[int, int]:
    return (int(value), int(value)) if isinstance(value, int) else (int(value[0]), int(value[1]))
