"""Patch embeddings between real-valued membranes: the neuron comes first, the pool last (Max-Former and its ablations).

Every one maps `[T, B, C_in, H, W]` (or `[T, B, C_in, N]` with `dims=1`) to a membrane with `dim` channels.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from ranvier.errors import ArgumentError, UnknownNameError, nearest
from ranvier.layers.conv import ConvBN
from ranvier.layers.patch_stem import halving_pool
from ranvier.layers.time import over_time
from ranvier.neurons import NeuronFactory

PoolKind = Literal["max", "avg"]


class Embed(nn.Module):
    """[neuron →] convolution → BN [→ pool of the membrane].

    Args:
        in_channels, out_channels, kernel, stride, bias: of the convolution (padding kernel // 2).
        neuron: factory of the neuron in front; None where spikes, or the analog input, come in as they are.
        pool: "max" or "avg" halves the membrane behind the batch norm.
        dims: 2 for images, 1 for `[T, B, C, N]`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        neuron: NeuronFactory | None,
        kernel: int = 3,
        stride: int = 1,
        pool: PoolKind | None = None,
        bias: bool = False,
        dims: int = 2,
    ) -> None:
        super().__init__()
        self.neuron = None if neuron is None else neuron(channels=in_channels)
        self.block = ConvBN(in_channels, out_channels, kernel, stride, bias=bias, dims=dims)
        self.pool = None if pool is None else halving_pool(dims, pool)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block(x if self.neuron is None else self.neuron(x))
        return x if self.pool is None else over_time(self.pool, x)


class MaxEmbed(Embed):
    """`Embed` with a max-pool of the membrane (Fang et al., NeurIPS 2025)."""

    def __init__(
        self, in_channels: int, out_channels: int, neuron: NeuronFactory | None, kernel: int = 3, dims: int = 2
    ) -> None:
        super().__init__(in_channels, out_channels, neuron, kernel, pool="max", dims=dims)


class AvgEmbed(Embed):
    """`Embed` with an average pool of the membrane: the control of `MaxEmbed`."""

    def __init__(
        self, in_channels: int, out_channels: int, neuron: NeuronFactory | None, kernel: int = 3, dims: int = 2
    ) -> None:
        super().__init__(in_channels, out_channels, neuron, kernel, pool="avg", dims=dims)


class MSDownsampling(Embed):
    """[neuron →] strided convolution with bias → BN (Yao et al., Meta-SpikeFormer, ICLR 2024)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        neuron: NeuronFactory | None,
        kernel: int = 3,
        stride: int = 2,
        dims: int = 2,
    ) -> None:
        super().__init__(in_channels, out_channels, neuron, kernel, stride, bias=True, dims=dims)


class EmbedOrig(nn.Module):
    """The embeddings without a pool that Max-Former starts from.

    "cifar": analog conv 3×3 to dim/2, then `Embed 3×3 + Embed 1×1` of it, at full resolution; "imagenet": analog conv
    with stride 2, then conv with stride 2 → BN → `Embed 3×3`, plus a 1×1 shortcut with stride 2, a quarter of the
    size; "stage": between stages, conv 3×3 → BN → neuron → conv with stride 2 → BN, plus a 1×1 shortcut, half the
    size. The two branches share the neuron at their start.
    """

    def __init__(
        self,
        in_channels: int,
        dim: int,
        neuron: NeuronFactory,
        kind: Literal["cifar", "imagenet", "stage"] = "cifar",
        dims: int = 2,
    ) -> None:
        super().__init__()
        if kind not in ("cifar", "imagenet", "stage"):
            raise ArgumentError(f"kind must be 'cifar', 'imagenet' or 'stage', got {kind!r}")
        if kind != "stage":
            _divides(dim, 2)
        half, stride = (in_channels, 2) if kind == "stage" else (dim // 2, 2 if kind == "imagenet" else 1)
        self.first = None if kind == "stage" else Embed(in_channels, half, None, stride=stride, dims=dims)
        self.neuron = neuron(channels=half)
        if kind == "cifar":
            self.main = Embed(half, dim, None, dims=dims)
        elif kind == "imagenet":
            self.main = nn.Sequential(Embed(half, dim, None, stride=2, dims=dims), Embed(dim, dim, neuron, dims=dims))
        else:
            self.main = nn.Sequential(Embed(half, dim, None, dims=dims), Embed(dim, dim, neuron, stride=2, dims=dims))
        self.shortcut = Embed(half, dim, None, kernel=1, stride=stride, dims=dims)

    def forward(self, x: Tensor) -> Tensor:
        s = self.neuron(x if self.first is None else self.first(x))
        return self.main(s) + self.shortcut(s)


class EmbedMax(nn.Module):
    """Embed-Max: neuron → conv 3×3 → BN → pool → `Embed 3×3`, plus a 1×1 shortcut with a pool; half the size.

    `pool_shortcut=False` pools the main branch alone, as the paper's figure has it (the shortcut then strides); the
    release pools both. `pool="avg"` is the control of the ablation.
    """

    def __init__(
        self,
        in_channels: int,
        dim: int,
        neuron: NeuronFactory,
        pool_shortcut: bool = True,
        pool: PoolKind = "max",
        dims: int = 2,
    ) -> None:
        super().__init__()
        self.neuron = neuron(channels=in_channels)
        self.main = nn.Sequential(
            Embed(in_channels, dim, None, pool=pool, dims=dims), Embed(dim, dim, neuron, dims=dims)
        )
        if pool_shortcut:
            self.shortcut = Embed(in_channels, dim, None, kernel=1, pool=pool, dims=dims)
        else:
            self.shortcut = Embed(in_channels, dim, None, kernel=1, stride=2, dims=dims)

    def forward(self, x: Tensor) -> Tensor:
        s = self.neuron(x)
        return self.main(s) + self.shortcut(s)


class Embed1Max(nn.Module):
    """Embed-1Max, QKFormer's embedding with membrane shortcuts: one max-pool, a 1×1 shortcut with stride 2.

    The pool follows the second convolution ("late": the release for CIFAR and events) or the first ("early": for
    ImageNet).
    """

    def __init__(
        self,
        in_channels: int,
        dim: int,
        neuron: NeuronFactory,
        order: Literal["late", "early"] = "late",
        dims: int = 2,
    ) -> None:
        super().__init__()
        if order not in ("late", "early"):
            raise ArgumentError(f"order must be 'late' or 'early', got {order!r}")
        first, second = ("max", None) if order == "early" else (None, "max")
        self.neuron = neuron(channels=in_channels)
        self.main = nn.Sequential(
            Embed(in_channels, dim, None, pool=first, dims=dims), Embed(dim, dim, neuron, pool=second, dims=dims)
        )
        self.shortcut = Embed(in_channels, dim, None, kernel=1, stride=2, dims=dims)

    def forward(self, x: Tensor) -> Tensor:
        s = self.neuron(x)
        return self.main(s) + self.shortcut(s)


class EmbedMaxPlus(nn.Module):
    """Embed-Max+, the stem for events: analog conv to dim/8, three `MaxEmbed` up to dim; an eighth of the size.

    The spikes that enter the second of them also reach the end, through a 1×1 convolution with stride 4.
    """

    def __init__(self, in_channels: int, dim: int, neuron: NeuronFactory, dims: int = 2) -> None:
        super().__init__()
        _divides(dim, 8)
        self.first = nn.Sequential(
            Embed(in_channels, dim // 8, None, dims=dims), MaxEmbed(dim // 8, dim // 4, neuron, dims=dims)
        )
        self.neuron = neuron(channels=dim // 4)
        self.main = nn.Sequential(
            MaxEmbed(dim // 4, dim // 2, None, dims=dims), MaxEmbed(dim // 2, dim, neuron, dims=dims)
        )
        self.shortcut = Embed(dim // 4, dim, None, kernel=1, stride=4, dims=dims)

    def forward(self, x: Tensor) -> Tensor:
        s = self.neuron(self.first(x))
        return self.main(s) + self.shortcut(s)


class EmbedQKInit(nn.Module):
    """The ImageNet stem of MS-QKFormer: two convolutions with max-pools and a third, a 1×1 shortcut; a quarter of the
    size."""

    def __init__(self, in_channels: int, dim: int, neuron: NeuronFactory, dims: int = 2) -> None:
        super().__init__()
        _divides(dim, 2)
        self.first = MaxEmbed(in_channels, dim // 2, None, dims=dims)
        self.neuron = neuron(channels=dim // 2)
        self.main = nn.Sequential(MaxEmbed(dim // 2, dim, None, dims=dims), Embed(dim, dim, neuron, dims=dims))
        self.shortcut = Embed(dim // 2, dim, None, kernel=1, stride=2, dims=dims)

    def forward(self, x: Tensor) -> Tensor:
        s = self.neuron(self.first(x))
        return self.main(s) + self.shortcut(s)


def _divides(dim: int, by: int) -> None:
    if dim < by or dim % by:
        raise ArgumentError(f"dim must be a multiple of {by} for this embedding, got {dim!r}")


EMBEDS = ("orig", "orig_imagenet", "max", "max_main", "avg", "1max", "1max_early", "max+", "qk")


def build_embed(
    spec: str, in_channels: int, dim: int, neuron: NeuronFactory, first: bool = False, dims: int = 2
) -> nn.Module:
    """A patch embedding by name.

    "orig" (as the `first` of a net: the stem for CIFAR at full size; later: strided), "orig_imagenet" (a quarter of the
    size), "max", "max_main" (pools the main branch alone), "avg", "1max", "1max_early", "max+" (an eighth), "qk" (a
    quarter). Raises `UnknownNameError` that names the nearest one.
    """
    if spec == "orig":
        return EmbedOrig(in_channels, dim, neuron, "cifar" if first else "stage", dims)
    if spec == "orig_imagenet":
        return EmbedOrig(in_channels, dim, neuron, "imagenet", dims)
    if spec in ("max", "max_main"):
        return EmbedMax(in_channels, dim, neuron, pool_shortcut=spec == "max", dims=dims)
    if spec == "avg":
        return EmbedMax(in_channels, dim, neuron, pool="avg", dims=dims)
    if spec in ("1max", "1max_early"):
        return Embed1Max(in_channels, dim, neuron, "early" if spec == "1max_early" else "late", dims)
    if spec == "max+":
        return EmbedMaxPlus(in_channels, dim, neuron, dims)
    if spec == "qk":
        return EmbedQKInit(in_channels, dim, neuron, dims)
    raise UnknownNameError(f"unknown embedding {spec!r}{nearest(spec, EMBEDS)}")
