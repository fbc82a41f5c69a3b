"""Sparse convolution over a kernel map in plain torch: gather, multiply, scatter, one kernel offset at a time.

    y[o] = Σ_κ Σ_{(i, o) ∈ map κ}  x[i] W[κ]

An output row occurs once an offset, so every element is added to once a call: the result is deterministic on CUDA too.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor


def forward(x: Tensor, weight: Tensor, in_idx: Tensor, out_idx: Tensor, ptr: Tensor, n_out: int) -> Tensor:
    """`[n_in, C_in]` and `[K, C_in, C_out]` to `[n_out, C_out]`."""
    y = x.new_zeros(n_out, weight.shape[2])
    for k, (first, last) in enumerate(itertools.pairwise(ptr.tolist())):
        if first < last:
            y.index_add_(0, out_idx[first:last], x.index_select(0, in_idx[first:last]) @ weight[k])
    return y


def weight_gradient(x: Tensor, dy: Tensor, in_idx: Tensor, out_idx: Tensor, ptr: Tensor) -> Tensor:
    """dW[κ] = Σ x[i]ᵀ dy[o], `[K, C_in, C_out]`."""
    dw = x.new_zeros(len(ptr) - 1, x.shape[1], dy.shape[1])
    for k, (first, last) in enumerate(itertools.pairwise(ptr.tolist())):
        if first < last:
            torch.mm(x.index_select(0, in_idx[first:last]).T, dy.index_select(0, out_idx[first:last]), out=dw[k])
    return dw
