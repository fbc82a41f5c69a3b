"""Spatial convolution in which every synapse of the kernel has a delay of its own."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ranvier.errors import ArgumentError, ShapeError
from ranvier.layers.delays.linear import DelayLinear


class DelayConv2d(nn.Module):
    """`y[t, o, r] = Σ w[o, i, s] · x[t − d[o, i, s], i, r + s]` over sequences `[T, B, C, H, W]`.

    Every step is cut into patches, which a `DelayLinear` reads; its kernels, executors, state and options are those of
    the linear layer. `groups=in_channels` is the depthwise form.

    Args:
        in_channels, out_channels, kernel, stride, padding: as in `torch.nn.Conv2d` (square kernels; padding None
            keeps the size at stride 1).
        max_delay: longest delay in steps.
        **options: of `DelayLinear`.

    Attributes:
        synapses: the `DelayLinear` over patches of C · kernel² values.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        max_delay: int,
        stride: int = 1,
        padding: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        for name, value in {"in_channels": in_channels, "kernel": kernel, "stride": stride}.items():
            if not isinstance(value, int) or value < 1:
                raise ArgumentError(f"{name} must be an integer >= 1, got {value!r}")
        self.in_channels, self.kernel_size, self.stride = in_channels, kernel, stride
        self.padding = kernel // 2 if padding is None else padding
        self.synapses = DelayLinear(in_channels * kernel**2, out_channels, max_delay, **options)

    def kernel(self) -> Tensor:
        """The kernels `[O, C / groups, K, kernel, kernel]` that the layer applies now."""
        taps = self.synapses.kernel()
        return taps.unflatten(1, (-1, self.kernel_size, self.kernel_size)).movedim(-1, 2)

    def extra_repr(self) -> str:
        return f"kernel={self.kernel_size}, stride={self.stride}, padding={self.padding}"

    def forward(self, x: Tensor) -> Tensor:
        """`[T, B, C, H, W]` to `[T + tail, B, O, H', W']`; errors as in `DelayLinear`."""
        if x.dim() != 5 or x.shape[2] != self.in_channels or x.shape[0] == 0:
            raise ShapeError(
                f"DelayConv2d takes a sequence [T, B, {self.in_channels}, H, W] with at least one step, got shape "
                f"{tuple(x.shape)}"
            )
        steps, batch, _, height, width = x.shape
        out = [(size + 2 * self.padding - self.kernel_size) // self.stride + 1 for size in (height, width)]
        if min(out) < 1:
            raise ShapeError(f"a kernel of {self.kernel_size} does not fit into images of {height} x {width}")
        patches = F.unfold(x.flatten(0, 1), self.kernel_size, padding=self.padding, stride=self.stride)
        patches = patches.unflatten(0, (steps, batch)).transpose(2, 3).flatten(1, 2)  # [T, B · H' · W', C · k²]
        y = self.synapses(patches)
        return y.unflatten(1, (batch, *out)).movedim(-1, 2)
