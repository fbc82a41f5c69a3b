"""The stem of Spikingformer: an analog convolution, then convolutions that see nothing but spikes."""

from __future__ import annotations

import itertools

from torch import Tensor, nn

from ranvier.errors import ArgumentError
from ranvier.layers.conv import ConvBN
from ranvier.layers.patch_stem import check_flags, halving_pool
from ranvier.layers.time import over_time
from ranvier.neurons import NeuronFactory


class PooledConv(nn.Module):
    """Neuron → optional max-pool of the spikes → convolution 3×3 → BN: membrane in, membrane out."""

    def __init__(self, in_channels: int, out_channels: int, neuron: NeuronFactory, pool: bool, dims: int = 2) -> None:
        super().__init__()
        self.neuron = neuron(channels=in_channels)
        self.pool = halving_pool(dims) if pool else None
        self.block = ConvBN(in_channels, out_channels, dims=dims)

    def forward(self, x: Tensor) -> Tensor:
        s = self.neuron(x)
        return self.block(s if self.pool is None else over_time(self.pool, s))


class SpikingTokenizer(nn.Module):
    """Five 3×3 convolutions of widths D/8, D/4, D/2, D, D from `[T, B, C, H, W]` to a membrane (Zhou et al., 2023).

    All but the first are `PooledConv`; there is no position code and no shortcut (Spikingformer, sec. 3.3).

    Args:
        in_channels, dim: widths of the input and of the tokens (D ≥ 8).
        neuron: factory of the neurons.
        pools: one flag for each of the last four convolutions; "1" halves the image in front of it.
        dims: 2 for images, 1 for `[T, B, C, N]`.
    """

    def __init__(
        self, in_channels: int, dim: int, neuron: NeuronFactory, pools: str = "0011", dims: int = 2
    ) -> None:  # fmt: skip
        super().__init__()
        check_flags("pools", pools, 4)
        if dim < 8:
            raise ArgumentError(f"embed_dim must be at least 8 for a stem that begins with embed_dim/8, got {dim!r}")
        widths = (dim // 8, dim // 4, dim // 2, dim, dim)
        self.first = ConvBN(in_channels, widths[0], dims=dims)
        self.stages = nn.Sequential(
            *(
                PooledConv(i, o, neuron, flag == "1", dims)
                for (i, o), flag in zip(itertools.pairwise(widths), pools, strict=True)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.stages(self.first(x))
