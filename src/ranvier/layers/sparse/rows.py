"""Layers that see the rows of a sparse tensor: norms, neurons, linear layers, pooling."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ranvier.errors import ShapeError
from ranvier.layers.sparse.tensor import SparseTensor, Voxels
from ranvier.neurons import Neuron


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation over all voxels of the batch (and all time steps)."""

    def forward(self, input: SparseTensor) -> SparseTensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return input.map(super().forward)


class Spikes(nn.Module):
    """A neuron on every channel of every voxel; `[n, C]` is one time step."""

    def __init__(self, neuron: Neuron) -> None:
        super().__init__()
        self.neuron = neuron

    def forward(self, x: SparseTensor) -> SparseTensor:
        if x.feats.dim() == 3:
            return x.replace(self.neuron(x.feats))
        return x.replace(self.neuron(x.feats.unsqueeze(0)).squeeze(0))


class SparseLinear(nn.Linear):
    """The same linear layer for every voxel."""

    def forward(self, input: SparseTensor) -> SparseTensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return input.replace(super().forward(input.feats))


class GlobalAvgPool(nn.Module):
    """The mean over the voxels of every sample: `[B, C]`, or `[T, B, C]`; zeros for a sample without voxels."""

    def forward(self, x: SparseTensor) -> Tensor:
        sample = x.coords[:, 0].to(torch.int64)
        counts = x.voxels.counts().clamp_min(1).to(x.feats.dtype)
        shape = (*x.feats.shape[:-2], x.batch_size, x.channels)
        return x.feats.new_zeros(shape).index_add(-2, sample, x.feats) / counts[:, None]


class GlobalMaxPool(nn.Module):
    """The maximum over the voxels of every sample: `[B, C]`, or `[T, B, C]`; zeros for a sample without voxels."""

    def forward(self, x: SparseTensor) -> Tensor:
        sample = x.coords[:, 0].to(torch.int64)
        shape = (*x.feats.shape[:-2], x.batch_size, x.channels)
        index = sample[:, None].expand_as(x.feats)
        return x.feats.new_zeros(shape).scatter_reduce(-2, index, x.feats, "amax", include_self=False)


def to_bev(x: SparseTensor) -> Tensor:
    """A bird's eye view `[B, C · Z, Y, X]` of a grid (z, y, x): the layers become channels, channel by channel."""
    if x.voxels.dims != 3 or x.feats.dim() != 2:
        raise ShapeError(f"to_bev takes one step on a 3-D grid (z, y, x), got {x!r}")
    return x.dense().flatten(1, 2)


def sum_columns(x: SparseTensor) -> SparseTensor:
    """Voxels (z, y, x) that share (y, x) merged into one by adding their features: a 2-D grid."""
    from ranvier.ops.sparse_conv import distinct, pack, unpack

    rows = x.coords.clone()
    rows[:, 1] = 0
    keys, number = distinct(pack(rows))
    shape = (*x.feats.shape[:-2], len(keys), x.channels)
    feats = x.feats.new_zeros(shape).index_add(-2, number, x.feats)
    grid = None if x.spatial_shape is None else x.spatial_shape[1:]
    return SparseTensor(feats, Voxels(unpack(keys)[:, [0, 2, 3]], x.batch_size, grid, x.stride[1:]))
