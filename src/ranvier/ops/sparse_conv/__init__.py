"""Sparse convolution: kernel maps over voxels, and gather, multiply, scatter with its gradients."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from ranvier.errors import ArgumentError, ShapeError
from ranvier.ops.sparse_conv.kernel_map import Boundary, KernelMap, Mode, distinct, kernel_map
from ranvier.ops.sparse_conv.keys import check_coords, pack, unpack

__all__ = ["Boundary", "KernelMap", "Mode", "check_coords", "distinct", "kernel_map", "pack", "sparse_conv", "unpack"]


def sparse_conv(feats: Tensor, weight: Tensor, kmap: KernelMap) -> Tensor:
    """`y[o] = Σ_κ x[i] W[κ]` over the pairs (i, o) of `kmap`: sparse convolution as cross-correlation.

    Args:
        feats: `[n_in, C_in]`.
        weight: `[K, C_in, C_out]`, offsets in the order of `kmap.offsets`.

    Returns `[n_out, C_out]` in the dtype of `feats`; differentiable in both. On the CPU float32 and float64 run through
    compiled loops around BLAS; elsewhere, and under RANVIER_BACKEND=reference, through plain torch. Deterministic.
    """
    if has_torch_function((feats, weight)):
        return handle_torch_function(sparse_conv, (feats, weight), feats, weight, kmap)
    if feats.dim() != 2 or feats.shape[0] != kmap.n_in:
        raise ShapeError(f"feats must be [{kmap.n_in}, C] for this map, got shape {tuple(feats.shape)}")
    kernels = len(kmap.ptr) - 1
    if weight.dim() != 3 or weight.shape[0] != kernels or weight.shape[1] != feats.shape[1]:
        raise ShapeError(f"weight must be [{kernels}, {feats.shape[1]}, C_out], got shape {tuple(weight.shape)}")
    if not feats.is_floating_point():
        raise ArgumentError(f"feats must be floating point, got {feats.dtype}")
    from ranvier.ops.sparse_conv.op import sparse_conv_op

    if torch.is_autocast_enabled(feats.device.type):
        dtype = torch.get_autocast_dtype(feats.device.type)
        feats, weight = feats.to(dtype), weight.to(dtype)
    else:
        weight = weight.to(feats.dtype)
    return sparse_conv_op(feats, weight, kmap.in_idx, kmap.out_idx, kmap.ptr, kmap.n_out, kmap.identity)
