"""Patch embedding with a deformed shortcut (SPEDS): the stem and the transitions of QKFormer."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import Tensor, nn

from ranvier.errors import ArgumentError
from ranvier.layers.conv import ConvBNNeuron
from ranvier.layers.patch_stem import check_flags, halving_pool
from ranvier.neurons import NeuronFactory


class DeformedShortcut(nn.Module):
    """SPEDS (Zhou et al., QKFormer, NeurIPS 2024): `convs(x) + LIF(BN(conv1×1(tapped)))`.

    The main branch is [3×3 conv → BN → optional max-pool → neuron] per width. A 1×1 convolution, whose stride makes up
    for the poolings in between, joins the tapped point of it to the end.

    Args:
        widths: channels of the input and of every convolution.
        neuron: factory of the neurons.
        pools: one flag a convolution; "1" halves the image before the neuron.
        tap: how many convolutions lie before the tapped point (0: the input of the unit).
        dims: 2 for images, 1 for `[T, B, C, N]`.
    """

    def __init__(self, widths: Sequence[int], neuron: NeuronFactory, pools: str, tap: int = 0, dims: int = 2) -> None:
        super().__init__()
        check_flags("pools", pools, len(widths) - 1)
        if not 0 <= tap < len(pools):
            raise ArgumentError(f"tap must be between 0 and {len(pools) - 1}, got {tap!r}")
        self.tap = tap
        self.convs = nn.ModuleList(
            ConvBNNeuron(i, o, neuron, pool=halving_pool(dims) if flag == "1" else None, pool_membrane=True, dims=dims)
            for (i, o), flag in zip(itertools.pairwise(widths), pools, strict=True)
        )
        stride = 2 ** pools[tap:].count("1")
        self.shortcut = ConvBNNeuron(widths[tap], widths[-1], neuron, kernel=1, stride=stride, dims=dims)

    def forward(self, x: Tensor) -> Tensor:
        tapped = x
        for index, conv in enumerate(self.convs):
            if index == self.tap:
                tapped = x
            x = conv(x)
        return x + self.shortcut(tapped)
