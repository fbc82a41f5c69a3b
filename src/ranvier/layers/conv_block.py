"""The two branches of a Meta-SpikeFormer convolution block."""

from __future__ import annotations

from torch import Tensor, nn

from ranvier.layers.conv import ConvBN
from ranvier.layers.rep_conv import SeparableBN
from ranvier.neurons import NeuronFactory


class SepConv(nn.Module):
    """Branch of a convolution block: LIF → conv 1×1 (C → eC) → BN → LIF → depth-wise conv k×k → conv 1×1 → BN.

    No biases. The two last convolutions have no neuron between them; `fuse` makes them one dense k×k convolution (Yao
    et al., Meta-SpikeFormer, ICLR 2024; e = 2, k = 7).
    """

    def __init__(self, dim: int, neuron: NeuronFactory, expansion: float = 2, kernel: int = 7, dims: int = 2) -> None:
        super().__init__()
        hidden = int(dim * expansion)
        self.neuron1 = neuron(channels=dim)
        self.expand = ConvBN(dim, hidden, 1, dims=dims)
        self.neuron2 = neuron(channels=hidden)
        self.contract = SeparableBN(hidden, dim, kernel, dims)

    def forward(self, x: Tensor) -> Tensor:
        return self.contract(self.neuron2(self.expand(self.neuron1(x))))


class ChannelConv(nn.Module):
    """Branch of a convolution block: LIF → conv 3×3 (C → rC) → BN → LIF → conv 3×3 → BN, without biases."""

    def __init__(self, dim: int, neuron: NeuronFactory, ratio: float = 4, kernel: int = 3, dims: int = 2) -> None:
        super().__init__()
        hidden = int(dim * ratio)
        self.neuron1 = neuron(channels=dim)
        self.conv1 = ConvBN(dim, hidden, kernel, dims=dims)
        self.neuron2 = neuron(channels=hidden)
        self.conv2 = ConvBN(hidden, dim, kernel, dims=dims)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.neuron2(self.conv1(self.neuron1(x))))
