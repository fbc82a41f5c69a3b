"""Chains of linear layers without a neuron in between: several in training, one dense convolution afterwards."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ranvier.layers.conv import conv_nd, norm_nd
from ranvier.layers.time import TimeWise

Norm = nn.BatchNorm1d | nn.BatchNorm2d
Conv = nn.Conv1d | nn.Conv2d


def norm_affine(bn: Norm) -> tuple[Tensor, Tensor]:
    """`(g, b)` of an evaluating batch norm written as `g x + b`, one number a channel."""
    assert bn.running_mean is not None and bn.running_var is not None
    g = (bn.running_var + bn.eps).rsqrt()
    g = g if bn.weight is None else g * bn.weight
    b = -bn.running_mean * g
    return g, (b if bn.bias is None else b + bn.bias)


def spread(v: Tensor, like: Tensor) -> Tensor:
    """A vector over axis 0 of `like`, shaped to broadcast against it."""
    return v.view(-1, *[1] * (like.dim() - 1))


class RepConv(nn.Module):
    """conv 1×1 → BN → depth-wise conv 3×3 → conv 1×1 → BN, all without bias, on `[T, B, C, H, W]` (or 1-D).

    The 3×3 convolution meets a border of the value that the first batch norm gives to 0 (of its running statistics, in
    training too), so that the whole is one dense 3×3 convolution with zero padding: `fuse` (Yao et al.,
    Meta-SpikeFormer, ICLR 2024, after Ding et al., RepVGG). Between its parts there is no neuron: unmerged, the inner
    convolutions take real values.

    Args:
        in_channels, out_channels: widths; None for equal ones.
        kernel: of the depth-wise convolution, odd.
        dims: 2, or 1 for `[T, B, C, N]`.
    """

    def __init__(self, in_channels: int, out_channels: int | None = None, kernel: int = 3, dims: int = 2) -> None:
        super().__init__()
        out_channels = in_channels if out_channels is None else out_channels
        conv = conv_nd(dims)
        self.conv1 = conv(in_channels, in_channels, 1, bias=False)
        self.bn1 = norm_nd(dims)(in_channels)
        self.depthwise = conv(in_channels, in_channels, kernel, groups=in_channels, bias=False)
        self.conv2 = conv(in_channels, out_channels, 1, bias=False)
        self.bn2 = norm_nd(dims)(out_channels)
        self.border = kernel // 2

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x.flatten(0, 1)))
        y = self.bn2(self.conv2(self.depthwise(self._padded(y))))
        return y.unflatten(0, x.shape[:2])

    def _padded(self, y: Tensor) -> Tensor:
        """`y` with a border of BN(0)."""
        if not self.border:
            return y
        value = norm_affine(self.bn1)[1].detach().to(y.dtype)
        sides = [self.border] * (2 * (y.dim() - 2))
        outside = 1 - F.pad(torch.ones_like(y[:1, :1]), sides)
        return F.pad(y, sides) + outside * value.view(-1, *[1] * (y.dim() - 2))

    def fuse(self) -> TimeWise:
        """The same map in evaluation mode as one dense convolution with bias and zero padding, on `[T, B, C, ...]`.

        W[o, i] = g₂[o] Σ_m P[o, m] D[m] g₁[m] A[m, i]; the bias collects what the batch norms shift.
        """
        first, depthwise, last = (_weight(c) for c in (self.conv1, self.depthwise, self.conv2))
        (g1, b1), (g2, b2) = norm_affine(self.bn1), norm_affine(self.bn2)
        a = first.flatten(1) * g1[:, None]  # [m, i]
        d = depthwise.flatten(1)  # [m, taps]
        p = last.flatten(1) * g2[:, None]  # [o, m]
        weight = torch.einsum("om,mk,mi->oik", p, d, a).unflatten(2, depthwise.shape[2:])
        bias = p @ (d.sum(1) * b1) + b2
        return TimeWise(dense(weight, bias, padding=self.border))


class RepConvBN(nn.Module):
    """`RepConv` and one more batch norm, as the released attention has it."""

    def __init__(self, in_channels: int, out_channels: int | None = None, dims: int = 2) -> None:
        super().__init__()
        self.rep = RepConv(in_channels, out_channels, dims=dims)
        self.bn = norm_nd(dims)(in_channels if out_channels is None else out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.rep(x).flatten(0, 1)).unflatten(0, x.shape[:2])

    def fuse(self) -> TimeWise:
        """The same map in evaluation mode as one dense convolution (see `RepConv.fuse`)."""
        merged = self.rep.fuse().module
        assert isinstance(merged, Conv) and merged.bias is not None
        g, b = norm_affine(self.bn)
        return TimeWise(dense(merged.weight * spread(g, merged.weight), merged.bias * g + b, padding=self.rep.border))


class SeparableBN(nn.Module):
    """Depth-wise conv k×k → conv 1×1 → BN, without biases: one dense k×k convolution after `fuse`."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, dims: int = 2) -> None:
        super().__init__()
        conv = conv_nd(dims)
        self.depthwise = conv(in_channels, in_channels, kernel, padding=kernel // 2, groups=in_channels, bias=False)
        self.pointwise = conv(in_channels, out_channels, 1, bias=False)
        self.bn = norm_nd(dims)(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.pointwise(self.depthwise(x.flatten(0, 1)))).unflatten(0, x.shape[:2])

    def fuse(self) -> TimeWise:
        """The same map in evaluation mode as one dense convolution with zero padding, on `[T, B, C, ...]`."""
        d, p = _weight(self.depthwise), _weight(self.pointwise)
        g, b = norm_affine(self.bn)
        weight = torch.einsum("om,mk->omk", p.flatten(1) * g[:, None], d.flatten(1)).unflatten(2, d.shape[2:])
        return TimeWise(dense(weight, b, padding=d.shape[-1] // 2))


def dense(weight: Tensor, bias: Tensor, padding: int) -> Conv:
    """A convolution with the given weight `[out, in, ...]` and bias."""
    out_channels, in_channels, *kernel = weight.shape
    conv = conv_nd(len(kernel))(in_channels, out_channels, tuple(kernel), padding=padding, device=weight.device)  # pyright: ignore[reportArgumentType]
    conv = conv.to(weight.dtype)
    with torch.no_grad():
        conv.weight.copy_(weight)
        assert conv.bias is not None
        conv.bias.copy_(bias)
    return conv


def _weight(conv: nn.Module) -> Tensor:
    """What the convolution multiplies with: the quantised weight where there is one."""
    effective = getattr(conv, "effective_weight", None)
    return (conv.weight if effective is None else effective()).detach()  # pyright: ignore[reportReturnType, reportCallIssue, reportAttributeAccessIssue]
