"""Spiking patch splitting: the convolutional stem of most spiking transformers."""

from __future__ import annotations

import itertools
from typing import Literal

from torch import Tensor, nn

from ranvier.errors import ArgumentError
from ranvier.layers.conv import ConvBN, ConvBNNeuron
from ranvier.layers.residual import Residual, check_residual
from ranvier.layers.time import over_time
from ranvier.neurons import NeuronFactory


def halving_pool(dims: int = 2, kind: Literal["max", "avg"] = "max") -> nn.Module:
    """The pool of all these models: window 3, stride 2, padding 1, over `dims` axes.

    The average leaves padding out of the count.
    """
    if dims not in (1, 2) or kind not in ("max", "avg"):
        raise ArgumentError(f"a pool is 'max' or 'avg' over dims = 1 or 2 axes, got {kind!r} and {dims!r}")
    if kind == "max":
        return (nn.MaxPool1d if dims == 1 else nn.MaxPool2d)(3, stride=2, padding=1)
    return (nn.AvgPool1d if dims == 1 else nn.AvgPool2d)(3, stride=2, padding=1, count_include_pad=False)


def check_flags(name: str, flags: str, length: int) -> None:
    """Raise `ArgumentError` unless `flags` is a string of `length` digits 0 or 1."""
    if not isinstance(flags, str) or len(flags) != length or set(flags) - {"0", "1"}:
        raise ArgumentError(f"{name} must be a string of {length} flags such as {'0011'[-length:]!r}, got {flags!r}")


def pools_for(size: tuple[int, int], tokens_a_side: int = 8) -> str:
    """Flags of a four-stage stem that bring `size` to at most `tokens_a_side` a side, in four poolings or fewer."""
    side, count = max(size), 0
    while side > tokens_a_side and count < 4:
        side, count = (side + 1) // 2, count + 1
    return "0" * (4 - count) + "1" * count


class PatchStem(nn.Module):
    """Four 3×3 convolutions of widths D/8, D/4, D/2, D and a convolution as position code: `[T, B, C, H, W]` to D.

    "post" is SPS (Zhou et al., Spikformer, ICLR 2023, sec. 3.2): conv → BN → neuron → pool four times to spikes s,
    then `s + LIF(BN(conv(s)))`. "membrane" is MS-SPS (Yao et al., Spike-driven Transformer, NeurIPS 2023): the fourth
    stage stays a membrane m (conv → BN → pool), then `m + BN(conv(LIF(m)))`.

    Args:
        in_channels, dim: widths of the input and of the tokens (D ≥ 8).
        neuron: factory of the neurons.
        pools: one flag a stage; "1" halves the image there.
        residual: "post" or "membrane".
        dims: 2 for images, 1 for `[T, B, C, N]` (convolutions of length 3).
    """

    def __init__(
        self,
        in_channels: int,
        dim: int,
        neuron: NeuronFactory,
        pools: str = "0011",
        residual: Residual = "post",
        dims: int = 2,
    ) -> None:
        super().__init__()
        check_residual(residual)
        check_flags("pools", pools, 4)
        if dim < 8:
            raise ArgumentError(f"embed_dim must be at least 8 for a stem that begins with embed_dim/8, got {dim!r}")
        widths = (in_channels, dim // 8, dim // 4, dim // 2)
        self.stages = nn.Sequential(
            *(
                ConvBNNeuron(i, o, neuron, pool=halving_pool(dims) if flag == "1" else None, dims=dims)
                for (i, o), flag in zip(itertools.pairwise(widths), pools[:3], strict=True)
            )
        )
        self.last = ConvBN(dim // 2, dim, dims=dims)
        self.last_neuron = neuron(channels=dim)
        self.last_pool = halving_pool(dims) if pools[3] == "1" else nn.Identity()
        self.position = ConvBN(dim, dim, dims=dims)
        self.position_neuron = neuron(channels=dim) if residual == "post" else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.last(self.stages(x))
        if self.position_neuron is None:
            x = over_time(self.last_pool, x)
            return x + self.position(self.last_neuron(x))
        x = over_time(self.last_pool, self.last_neuron(x))
        return x + self.position_neuron(self.position(x))


SpikingPatchSplitting = PatchStem
"""The name of the literature (SPS)."""
