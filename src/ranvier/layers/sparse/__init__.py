"""Sparse tensors over voxels and the layers on them."""

from __future__ import annotations

from ranvier.layers.sparse.conv import (
    SparseConv,
    SparseConv2d,
    SparseConv3d,
    SparseInverseConv2d,
    SparseInverseConv3d,
    SubmConv2d,
    SubmConv3d,
    from_spconv,
    to_spconv,
)
from ranvier.layers.sparse.rows import (
    BatchNorm,
    GlobalAvgPool,
    GlobalMaxPool,
    SparseLinear,
    Spikes,
    sum_columns,
    to_bev,
)
from ranvier.layers.sparse.tensor import SparseTensor, Voxels, cat, from_dense
from ranvier.layers.sparse.voxelize import devoxelize, voxelize
from ranvier.ops.sparse_conv import KernelMap, kernel_map

__all__ = [
    "BatchNorm", "GlobalAvgPool", "GlobalMaxPool", "KernelMap", "SparseConv", "SparseConv2d", "SparseConv3d",
    "SparseInverseConv2d", "SparseInverseConv3d", "SparseLinear", "SparseTensor", "Spikes", "SubmConv2d", "SubmConv3d",
    "Voxels", "cat", "devoxelize", "from_dense", "from_spconv", "kernel_map", "sum_columns", "to_bev", "to_spconv",
    "voxelize",
]  # fmt: skip
