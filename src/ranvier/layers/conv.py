"""Convolution, normalisation and neuron in the two orders that spiking nets use."""

from __future__ import annotations

from torch import Tensor, nn

from ranvier.errors import ArgumentError
from ranvier.layers.time import over_time
from ranvier.neurons import NeuronFactory


def conv_nd(dims: int) -> type[nn.Conv1d] | type[nn.Conv2d]:
    """The convolution over `dims` = 1 (sequences, point rows) or 2 (images) axes."""
    if dims not in (1, 2):
        raise ArgumentError(f"dims must be 1 or 2, got {dims!r}")
    return nn.Conv1d if dims == 1 else nn.Conv2d


def norm_nd(dims: int) -> type[nn.BatchNorm1d] | type[nn.BatchNorm2d]:
    """The batch norm that goes with `conv_nd`."""
    if dims not in (1, 2):
        raise ArgumentError(f"dims must be 1 or 2, got {dims!r}")
    return nn.BatchNorm1d if dims == 1 else nn.BatchNorm2d


class ConvBN(nn.Module):
    """Convolution and batch norm on `[T, B, C, H, W]` (2-D) or `[T, B, C, N]` (1-D, `dims=1`); membrane out."""

    conv: nn.Conv1d | nn.Conv2d
    bn: nn.BatchNorm1d | nn.BatchNorm2d

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 3,
        stride: int = 1,
        padding: int | None = None,
        groups: int = 1,
        bias: bool = False,
        dims: int = 2,
    ) -> None:
        super().__init__()
        padding = kernel // 2 if padding is None else padding
        self.conv = conv_nd(dims)(in_channels, out_channels, kernel, stride, padding, groups=groups, bias=bias)
        self.bn = norm_nd(dims)(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x.flatten(0, 1))).unflatten(0, x.shape[:2])


class LinearBN(nn.Module):
    """Linear layer and batch norm over the features of `[T, B, N, C]`; membrane out."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, out_features, bias=bias)
        self.bn = nn.BatchNorm1d(out_features)

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(x)
        return self.bn(y.flatten(0, -2)).view_as(y)


class ConvBNNeuron(nn.Module):
    """`ConvBN`, then a neuron: `[T, B, C, H, W]` (or `[T, B, C, N]` with `dims=1`) to spikes.

    A 2-D `pool` works on the spikes (a max-pool is an OR) or, with `pool_membrane`, on what enters the neuron.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        neuron: NeuronFactory,
        kernel: int = 3,
        stride: int = 1,
        pool: nn.Module | None = None,
        pool_membrane: bool = False,
        bias: bool = False,
        dims: int = 2,
    ) -> None:
        super().__init__()
        self.block = ConvBN(in_channels, out_channels, kernel, stride, bias=bias, dims=dims)
        self.neuron = neuron(channels=out_channels)
        self.pool = pool
        self.pool_membrane = pool_membrane

    def forward(self, x: Tensor) -> Tensor:
        x = self.block(x)
        if self.pool is None:
            return self.neuron(x)
        if self.pool_membrane:
            return self.neuron(over_time(self.pool, x))
        return over_time(self.pool, self.neuron(x))
