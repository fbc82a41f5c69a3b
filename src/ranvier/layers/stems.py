"""Stems by name, so that the number of convolutions, their kind and the position code vary one at a time."""

from __future__ import annotations

import itertools
from typing import Literal

import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError, UnknownNameError, nearest
from ranvier.layers.conv import ConvBN, ConvBNNeuron
from ranvier.layers.patch_stem import PatchStem, check_flags, halving_pool
from ranvier.layers.residual import Residual, check_residual
from ranvier.layers.time import over_time
from ranvier.neurons import NeuronFactory

Position = Literal["conv", "table", "none"]

STEMS = ("sps", "thin4", "wide4", "conv2", "conv1", "patchify")


class AblationStem(nn.Module):
    """A stem of 1, 2 or 4 convolutions 3×3 with pools, or one that cuts patches: `[T, B, C, H, W]` to D channels.

    "thin4" has the widths D/8, D/4, D/2, D of SPS, "wide4" D/4, D/2, D, D, "conv2" D/4 and D with the pools shared out
    between them, "conv1" one overlapping convolution to D with all pools, "patchify" one convolution whose kernel and
    stride are the patch (the ViT's; STEP, Shen et al., NeurIPS 2025, calls it the 1-conv stem).

    Behind it comes the position code: "conv" (convolution 3×3 → BN → neuron, added), "table" (one learned number a
    channel and token, added), or "none". "post" ends in spikes (plus the position code), "membrane" in a membrane.

    Args:
        kind: "thin4", "wide4", "conv2", "conv1" or "patchify" ("sps" is `PatchStem`).
        in_channels, dim, neuron, residual: as in `PatchStem`.
        pools: the flags of the four-stage stem; what counts here is how often they halve.
        position: the position code.
        img_size: height and width, for the table.
    """

    def __init__(
        self,
        kind: str,
        in_channels: int,
        dim: int,
        neuron: NeuronFactory,
        pools: str = "0011",
        residual: Residual = "post",
        position: Position = "conv",
        img_size: tuple[int, int] = (32, 32),
    ) -> None:
        super().__init__()
        check_residual(residual)
        check_flags("pools", pools, 4)
        if position not in ("conv", "table", "none"):
            raise ArgumentError(f"position must be 'conv', 'table' or 'none', got {position!r}")
        halvings = pools.count("1")
        last: list[nn.Module]
        self.stages = nn.Sequential()
        if kind == "patchify":
            patch = 2**halvings
            if any(side % patch for side in img_size):
                raise ArgumentError(f"img_size must be a multiple of the patch of {patch} pixels, got {img_size!r}")
            self.last = ConvBN(in_channels, dim, patch, patch, padding=0, bias=True)
            last = []
            grid = (img_size[0] // patch, img_size[1] // patch)
        else:
            widths, counts = _plan(kind, dim, pools)
            pairs = list(itertools.pairwise((in_channels, *widths)))
            for (i, o), count in zip(pairs[:-1], counts[:-1], strict=True):
                self.stages.append(ConvBNNeuron(i, o, neuron, pool=_pool(count)))
            self.last = ConvBN(*pairs[-1])
            last = [halving_pool() for _ in range(counts[-1])]
            grid = (_halved(img_size[0], halvings), _halved(img_size[1], halvings))
        self.last_neuron = neuron(channels=dim) if residual == "post" or position == "conv" else None
        self.last_pool = nn.Sequential(*last)
        self.membrane = residual == "membrane"
        self.position = ConvBN(dim, dim) if position == "conv" else None
        self.position_neuron = neuron(channels=dim) if position == "conv" and not self.membrane else None
        self.table = nn.Parameter(torch.zeros(dim, *grid)) if position == "table" else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.last(self.stages(x))
        if self.membrane:
            x = over_time(self.last_pool, x)
            if self.position is not None and self.last_neuron is not None:
                x = x + self.position(self.last_neuron(x))
        else:
            assert self.last_neuron is not None
            x = over_time(self.last_pool, self.last_neuron(x))
            if self.position is not None and self.position_neuron is not None:
                x = x + self.position_neuron(self.position(x))
        return x if self.table is None else x + self.table


def _plan(kind: str, dim: int, pools: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Widths of the convolutions and how often each is halved behind."""
    halvings = pools.count("1")
    if kind == "conv1":
        return (dim,), (halvings,)
    if dim < 8:
        raise ArgumentError(f"embed_dim must be at least 8 for this stem, got {dim!r}")
    if kind == "conv2":
        return (dim // 4, dim), (halvings // 2, halvings - halvings // 2)
    flags = tuple(map(int, pools))
    if kind == "thin4":
        return (dim // 8, dim // 4, dim // 2, dim), flags
    if kind == "wide4":
        return (dim // 4, dim // 2, dim, dim), flags
    raise UnknownNameError(f"unknown stem {kind!r}{nearest(kind, STEMS)}")


def _halved(side: int, times: int) -> int:
    for _ in range(times):
        side = (side + 1) // 2
    return side


def _pool(count: int) -> nn.Module | None:
    if count == 0:
        return None
    return halving_pool() if count == 1 else nn.Sequential(*(halving_pool() for _ in range(count)))


def build_stem(
    kind: str,
    in_channels: int,
    dim: int,
    neuron: NeuronFactory,
    pools: str,
    residual: Residual,
    position: Position | None,
    img_size: tuple[int, int],
) -> nn.Module:
    """The stem `kind`: "sps" (`PatchStem`), or one of `AblationStem`.

    `position` None is the published one: a convolution, for "patchify" a table. Raises `UnknownNameError` that names
    the nearest stem.
    """
    if kind not in STEMS:
        raise UnknownNameError(f"unknown stem {kind!r}{nearest(str(kind), STEMS)}")
    if kind == "sps":
        if position not in (None, "conv"):
            raise ArgumentError(f"stem 'sps' has the position code 'conv'; take 'thin4' to vary it, got {position!r}")
        return PatchStem(in_channels, dim, neuron, pools, residual)
    code: Position = ("table" if kind == "patchify" else "conv") if position is None else position
    return AblationStem(kind, in_channels, dim, neuron, pools, residual, code, img_size)
