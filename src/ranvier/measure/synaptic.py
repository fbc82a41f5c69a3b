"""Synaptic operations: the aten calls that multiply an input with weights, or two activations with each other."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ranvier.measure.fan import fan_map

OpKind = Literal[
    "linear",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "matmul",
    "sparse_conv",
]


@dataclass(frozen=True)
class Synapses:
    """One call of an op that multiplies `input` with `weight`.

    `total(v)` is Σ v·fan over the elements of a tensor shaped as `input`; `macs` and `padded_macs` are the
    multiply-accumulates of the dense op without and with those that meet padding; `fan_channels` is how many outputs
    lie behind each weight that an event reads; `kernel`, `stride` and output `channels` are those of a convolution.
    """

    kind: OpKind
    input: Tensor
    weight: Tensor
    bias: bool
    macs: int
    padded_macs: int
    fan_channels: int
    total: Callable[[Tensor], float]
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    channels: int = 0


@dataclass(frozen=True)
class Product:
    """One call of a matrix product of two activations, `left [b, M, K] @ right [b, K, N]`.

    `right` None stands for values that a fused op keeps to itself (attention after its softmax): dense and real, so
    that each element of `left [b, K, N]` meets `macs / left.numel()` of them.
    """

    left: Tensor
    right: Tensor | None
    macs: int


def product_total(left: Tensor, right: Tensor) -> float:
    """Σ over m, k, n of left[m, k]·right[k, n], without forming the product."""
    exact = torch.float64 if left.is_floating_point() or right.is_floating_point() else torch.int64
    return float((left.sum(1, dtype=exact) * right.sum(2, dtype=exact)).sum())


def matrix_factors(name: str, args: Sequence[Any]) -> tuple[Tensor, Tensor, Tensor | None] | None:
    """The factors `[b, M, K]`, `[b, K, N]` and the addend of a matrix-product op, None for any other op."""
    if name in ("mm", "_int_mm", "_scaled_mm"):
        return args[0].unsqueeze(0), args[1].unsqueeze(0), None
    if name == "bmm":
        return args[0], args[1], None
    if name == "addmm":
        return args[1].unsqueeze(0), args[2].unsqueeze(0), args[0]
    if name in ("baddbmm", "addbmm"):
        return args[1], args[2], args[0]
    if name == "mv":
        return args[0].unsqueeze(0), args[1].view(1, -1, 1), None
    if name == "addmv":
        return args[1].unsqueeze(0), args[2].view(1, -1, 1), args[0]
    if name in ("dot", "vdot"):
        return args[0].view(1, 1, -1), args[1].view(1, -1, 1), None
    return None


def linear(left: Tensor, right: Tensor, weight_is_left: bool, bias: bool) -> Synapses:
    """A matrix product in which one factor is a weight."""
    b, m, k = left.shape
    n = right.shape[2]
    weight, x, fan = (left, right, m) if weight_is_left else (right, left, n)
    macs = b * m * k * n
    return Synapses("linear", x, weight, bias, macs, macs, fan, lambda v: float(_sum(v) * fan))


def convolution(args: Sequence[Any], output: Tensor) -> Synapses:
    """`aten.convolution` (any dimension, stride, padding, dilation, groups, transposed or not)."""
    x, weight, bias, stride, padding, dilation, transposed, _, groups = args[:9]
    kernel = weight.shape[2:]
    spatial = len(kernel)
    stride, padding, dilation = (tuple(v) * spatial if len(v) == 1 else tuple(v) for v in (stride, padding, dilation))
    fan = fan_map(x.shape[2:], output.shape[2:], kernel, stride, padding, dilation, transposed)
    channels = weight.shape[1] if transposed else weight.shape[0] // groups
    placed = (x.shape[2:] if transposed else output.shape[2:]).numel()
    pairs = x.shape[0] * x.shape[1] * channels  # (sample, input channel, output channel) that are connected

    def total(v: Tensor) -> float:
        per_position = v.sum((0, 1), dtype=torch.float64 if v.is_floating_point() else torch.int64)
        return float((per_position * fan.to(v.device)).sum() * channels)

    kind: Any = f"conv_transpose{spatial}d" if transposed else f"conv{spatial}d"
    return Synapses(
        kind, x, weight, bias is not None, pairs * int(fan.sum()), pairs * placed * math.prod(kernel), channels, total,
        tuple(kernel), tuple(stride), output.shape[1],
    )  # fmt: skip


def sparse_convolution(args: Sequence[Any]) -> Synapses:
    """`ranvier::sparse_conv`: every row of the input meets as many weights as the kernel map has pairs of it."""
    x, weight, in_idx = args[:3]
    channels = weight.shape[2]
    fan = torch.bincount(in_idx, minlength=x.shape[0])
    macs = int(in_idx.numel()) * weight.shape[1] * channels

    def total(v: Tensor) -> float:
        rows = v.sum(1, dtype=torch.float64 if v.is_floating_point() else torch.int64)
        return float((rows * fan).sum() * channels)

    return Synapses("sparse_conv", x, weight, False, macs, macs, channels, total)


DELAYED = ("ranvier.delay_gather", "ranvier.delay_scatter", "ranvier.delay_transform", "ranvier.delay_taps")


def delayed(name: str, args: Sequence[Any]) -> Synapses:
    """Synapses with delays, `x` `[T, B, I]`: at whole delays each meets an input once, in a convolution with a kernel
    over time once a tap. Those that arrive after the last step count as well."""
    x: Tensor = args[0]
    steps = x.shape[0] * x.shape[1]
    if name in ("ranvier.delay_transform", "ranvier.delay_taps"):
        weight = args[1]
        steps -= args[2] * x.shape[1]
        fan = torch.full((x.shape[2],), weight.shape[0] * weight.shape[1], device=x.device)
    else:
        ptr, other, weight = args[2], args[3], args[5]
        fan = ptr.diff() if name == "ranvier.delay_scatter" else torch.bincount(other.long(), minlength=x.shape[2])

    def total(v: Tensor) -> float:
        each = v.sum((0, 1), dtype=torch.float64 if v.is_floating_point() else torch.int64)
        return float((each * fan.to(v.device)).sum())

    macs = steps * weight.numel()
    return Synapses("linear", x, weight, False, macs, macs, int(fan.max()) if fan.numel() else 0, total)


def _sum(v: Tensor) -> Tensor:
    return v.sum(dtype=torch.float64 if v.is_floating_point() else torch.int64)


def weight_count(weight: Tensor) -> int:
    """Stored elements of a weight: axes along which it is only expanded count once."""
    return math.prod(size for size, step in zip(weight.shape, weight.stride(), strict=True) if step != 0)
