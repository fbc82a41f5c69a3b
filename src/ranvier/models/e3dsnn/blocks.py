"""The blocks of E-3DSNN: neuron first, then sparse convolution, then norm; shortcuts join membrane potentials.

Names of the parts are those of the release (Qiu et al., AAAI 2025), so that its weights find their places.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from ranvier.layers.sparse import (
    BatchNorm,
    SparseConv3d,
    SparseInverseConv3d,
    SparseLinear,
    SparseTensor,
    Spikes,
    SubmConv3d,
    cat,
)
from ranvier.neurons import NeuronFactory
from ranvier.ops.sparse_conv import Boundary

SPIKE_COUNT: Mapping[str, Any] = {"type": "spike_count", "levels": 4}
Shortcut = Literal["membrane", "none"]


@dataclass(frozen=True)
class Parts:
    """What the blocks are made of: `spikes(C)` for C channels, `norm(C)`, whether there are shortcuts, the boundary
    rule and the kernel (and stride, padding) of the downsampling."""

    neuron: NeuronFactory
    momentum: float = 0.01
    shortcut: Shortcut = "membrane"
    boundary: Boundary = "ceil"
    down: tuple[int, int, int] = (2, 2, 0)

    def spikes(self, channels: int) -> Spikes:
        """The neuron MS before a convolution."""
        return Spikes(self.neuron(channels=channels, channel_axis=2))

    def norm(self, channels: int) -> BatchNorm:
        """Batch norm over voxels as the release sets it."""
        return BatchNorm(channels, eps=1e-3, momentum=self.momentum)


class Stem(nn.Sequential):
    """Spike voxel coding: three submanifold convolutions, real voxel features in, membrane potentials out."""

    def __init__(self, in_channels: int, channels: int, parts: Parts) -> None:
        super().__init__(
            SubmConv3d(in_channels, channels), parts.norm(channels), parts.spikes(channels),
            SubmConv3d(channels, channels), parts.norm(channels), parts.spikes(channels),
            SubmConv3d(channels, channels), parts.norm(channels),
        )  # fmt: skip


class Down(nn.Sequential):
    """MS, strided sparse convolution, norm."""

    def __init__(self, in_channels: int, channels: int, parts: Parts) -> None:
        kernel, stride, padding = parts.down
        super().__init__(
            parts.spikes(in_channels),
            SparseConv3d(in_channels, channels, kernel, stride, padding, boundary=parts.boundary),
            parts.norm(channels),
        )


class SpikeSparseBlock(nn.Module):
    """`y = x + BN(SubM(MS(x)))`, `z = y + BN(SubM(MS(BN(SubM(MS(y))))))`: two membrane shortcuts."""

    def __init__(self, channels: int, parts: Parts) -> None:
        super().__init__()
        c = channels
        self.block = nn.Sequential(parts.spikes(c), SubmConv3d(c, c), parts.norm(c))
        self.voxel_block = nn.Sequential(
            parts.spikes(c), SubmConv3d(c, c), parts.norm(c), parts.spikes(c), SubmConv3d(c, c), parts.norm(c)
        )
        self.shortcut = parts.shortcut == "membrane"

    def forward(self, x: SparseTensor) -> SparseTensor:
        if not self.shortcut:
            return self.voxel_block(self.block(x))
        x = self.block(x) + x
        return self.voxel_block(x) + x


class Stage(nn.Module):
    """`Down`, then `depth` blocks."""

    def __init__(self, in_channels: int, channels: int, depth: int, parts: Parts) -> None:
        super().__init__()
        self.down = Down(in_channels, channels, parts)
        self.blocks = nn.Sequential(*(SpikeSparseBlock(channels, parts) for _ in range(depth)))

    def forward(self, x: SparseTensor) -> SparseTensor:
        return self.blocks(self.down(x))


class Up(nn.Module):
    """`u = BN(InvConv(MS(x)))` on the voxels of the skip, `u + F(cat[u, skip])`, F two spike-driven linear layers.

    `inverse=False` is the control: the nearest coarse voxel is copied (after the same linear map) instead of convolved.
    """

    def __init__(
        self, in_channels: int, skip_channels: int, channels: int, parts: Parts, inverse: bool = True
    ) -> None:  # fmt: skip
        super().__init__()
        c = channels
        self.up = nn.Sequential(parts.spikes(in_channels), _up_conv(in_channels, c, parts, inverse), parts.norm(c))
        self.fuse = nn.Sequential(
            parts.spikes(skip_channels + c), SparseLinear(skip_channels + c, c), parts.norm(c), parts.spikes(c),
            SparseLinear(c, c), parts.norm(c),
        )  # fmt: skip

    def forward(self, x: SparseTensor, skip: SparseTensor) -> SparseTensor:
        u = self.up(x)
        return u + self.fuse(cat([u, skip]))


class NearestUp(nn.Module):
    """Every fine voxel takes what its coarse voxel has, through one linear map."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_channels, channels, bias=False)

    def forward(self, x: SparseTensor) -> SparseTensor:
        assert x.voxels.finer is not None
        fine, kmap, _ = x.voxels.finer
        y = self.linear(x.feats)
        parent = torch.full((len(fine),), -1, dtype=torch.int64, device=y.device)
        parent[kmap.in_idx.long()] = kmap.out_idx.long()
        rows = y[..., parent.clamp_min(0), :] * (parent >= 0).to(y.dtype)[:, None]
        return SparseTensor(rows, fine)


def _up_conv(in_channels: int, channels: int, parts: Parts, inverse: bool) -> nn.Module:
    if inverse:
        return SparseInverseConv3d(in_channels, channels, parts.down[0])
    return NearestUp(in_channels, channels)


def initialise(net: nn.Module) -> None:
    """As released: submanifold and linear weights from N(0, 0.02²), biases zero; strided ones stay uniform."""
    for module in net.modules():
        if isinstance(module, SubmConv3d | nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
