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

from ranvier.ops.parallel import over_columns
from ranvier.ops.sparse_conv.numba_rows import gather, scatter_add

_BLOCK_BYTES = 1 << 19  # of the wider of the two buffers: they share the second-level cache


def _blocks(ptr: Tensor, rows: int, skip: int) -> Iterator[tuple[int, int, int]]:
    for k, (first, last) in enumerate(itertools.pairwise(ptr.tolist())):
        if k != skip:
            for start in range(first, last, rows):
                yield k, start, min(start + rows, last)


def _groups(ptr: Tensor, rows: int, skip: int) -> Iterator[list[tuple[int, int, int]]]:
    """Blocks that lie one behind another, `rows` together; threads, each of which has a part of the rows, get one.

    They must not meet in an output row, of which an offset has at most one pair.
    """
    group: list[tuple[int, int, int]] = []
    for block in _blocks(ptr, rows, skip):
        if group and (torch.get_num_threads() > 1 or block[1] != group[-1][2] or block[2] - group[0][1] > rows):
            yield group
            group = []
        group.append(block)
    if group:
        yield group


def _rows(channels: int, element: int) -> int:
    return max(256, _BLOCK_BYTES // (channels * element) * max(1, torch.get_num_threads()))


def _gather(x: np.ndarray, index: np.ndarray, out: np.ndarray) -> None:
    over_columns(lambda lo, hi: gather(lo, hi, x, index, out), len(index), x.shape[1])


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
    longest = min(rows, len(in_idx))
    taken, part = x.new_empty(longest, c_in), x.new_empty(longest, c_out)
    xs, ys, ts, ps = x.numpy(), y.numpy(), taken.numpy(), part.numpy()
    ins, outs = in_idx.numpy(), out_idx.numpy()
    for group in _groups(ptr, rows, identity):
        start, end = group[0][1], group[-1][2]
        index = outs[start:end]
        _gather(xs, ins[start:end], ts)
        for k, first, last in group:
            torch.mm(taken[first - start : last - start], weight[k], out=part[first - start : last - start])
        over_columns(lambda lo, hi, index=index: scatter_add(lo, hi, ys, index, ps), end - start, c_out)
    return y


def weight_gradient(x: Tensor, dy: Tensor, in_idx: Tensor, out_idx: Tensor, ptr: Tensor, identity: int) -> Tensor:
    """`reference.weight_gradient`."""
    c_in, c_out = x.shape[1], dy.shape[1]
    dw = x.new_zeros(len(ptr) - 1, c_in, c_out)
    if identity >= 0:
        torch.mm(x.T, dy, out=dw[identity])
    rows = _rows(max(c_in, c_out), x.element_size())
    longest = min(rows, len(in_idx))
    left, right = x.new_empty(longest, c_in), x.new_empty(longest, c_out)
    xs, ys, ls, rs = x.numpy(), dy.numpy(), left.numpy(), right.numpy()
    ins, outs = in_idx.numpy(), out_idx.numpy()
    for group in _groups(ptr, rows, identity):
        start, end = group[0][1], group[-1][2]
        _gather(xs, ins[start:end], ls)
        _gather(ys, outs[start:end], rs)
        for k, first, last in group:
            dw[k].addmm_(left[first - start : last - start].T, right[first - start : last - start])
    return dw
