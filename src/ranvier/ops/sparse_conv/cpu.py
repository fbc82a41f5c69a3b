"""Sparse convolution on the CPU: rows gathered and added by compiled loops, multiplied by the BLAS behind torch.

Offsets are cut into blocks of rows that stay in the cache between gather, product and scatter. The offset that maps
every row to itself needs no gather at all, and initialises the output.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ranvier.ops.parallel import over_range
from ranvier.ops.sparse_conv.numba_rows import gather, scatter_add

_BLOCK_BYTES = 1 << 19  # of the wider of the two buffers: they share the second-level cache


def _blocks(ptr: Tensor, rows: int, skip: int) -> Iterator[tuple[int, int, int]]:
    for k, (first, last) in enumerate(itertools.pairwise(ptr.tolist())):
        if k != skip:
            for start in range(first, last, rows):
                yield k, start, min(start + rows, last)


def _rows(channels: int, element: int) -> int:
    return max(256, _BLOCK_BYTES // (channels * element) * max(1, torch.get_num_threads()))


def _gather(x: np.ndarray, index: np.ndarray, out: np.ndarray) -> None:
    over_range(lambda lo, hi: gather(lo, hi, x, index, out), np.full(x.shape[1], len(index)))


def forward(
    x: Tensor, weight: Tensor, in_idx: Tensor, out_idx: Tensor, ptr: Tensor, n_out: int, identity: int
) -> Tensor:
    """`reference.forward`; all contiguous, of one floating dtype."""
    c_in, c_out = weight.shape[1:]
    y = x.new_empty(n_out, c_out)
    if identity >= 0:
        torch.mm(x, weight[identity], out=y)
    else:
        y.zero_()
    rows = _rows(max(c_in, c_out), x.element_size())
    longest = min(rows, int(ptr.diff().max()) if len(ptr) > 1 else 0)
    taken, part = x.new_empty(longest, c_in), x.new_empty(longest, c_out)
    xs, ys, ts, ps = x.numpy(), y.numpy(), taken.numpy(), part.numpy()
    ins, outs = in_idx.numpy(), out_idx.numpy()
    for k, first, last in _blocks(ptr, rows, identity):
        size, index = last - first, outs[first:last]
        _gather(xs, ins[first:last], ts)
        torch.mm(taken[:size], weight[k], out=part[:size])
        over_range(lambda lo, hi, index=index: scatter_add(lo, hi, ys, index, ps), np.full(c_out, size))
    return y


def weight_gradient(x: Tensor, dy: Tensor, in_idx: Tensor, out_idx: Tensor, ptr: Tensor, identity: int) -> Tensor:
    """`reference.weight_gradient`."""
    c_in, c_out = x.shape[1], dy.shape[1]
    dw = x.new_zeros(len(ptr) - 1, c_in, c_out)
    if identity >= 0:
        torch.mm(x.T, dy, out=dw[identity])
    rows = _rows(max(c_in, c_out), x.element_size())
    longest = min(rows, int(ptr.diff().max()) if len(ptr) > 1 else 0)
    left, right = x.new_empty(longest, c_in), x.new_empty(longest, c_out)
    xs, ys, ls, rs = x.numpy(), dy.numpy(), left.numpy(), right.numpy()
    ins, outs = in_idx.numpy(), out_idx.numpy()
    for k, first, last in _blocks(ptr, rows, identity):
        size = last - first
        _gather(xs, ins[first:last], ls)
        _gather(ys, outs[first:last], rs)
        dw[k].addmm_(left[:size].T, right[:size])
    return dw
