"""CPU kernels of the spike codes: bit patterns in, packed codes out, and back."""

from __future__ import annotations

from functools import lru_cache

import numba
import numpy as np
import torch
from torch import Tensor

from ranvier.ops.parallel import over_range

_MOST = 16


@lru_cache(maxsize=8)
def _encode_kernel(bits: int):
    """Codes of `x` by its place in `table`; false in `ok` where a value is not in it."""
    each = 8 // bits

    @numba.njit(nogil=True, cache=True)
    def kernel(x, table, codes, ok, lo, hi):
        zero, one = table[0], table[1]
        good = True
        whole = min(hi, x.size // each)
        for i in range(lo, whole):
            byte = np.uint8(0)
            for k in range(each):
                v = x[i * each + k]
                code = np.uint8(0)
                if bits == 1:
                    code = np.uint8(v == one)
                    good = good & ((v == one) | (v == zero))
                else:
                    hit = False
                    for c in range(table.size):
                        same = v == table[c]
                        hit = hit | same
                        code |= np.uint8(c) * np.uint8(same)
                    good = good & hit
                byte |= np.uint8(code << np.uint8(k * bits))
            codes[i] = byte
        for i in range(max(lo, whole), hi):
            byte = np.uint8(0)
            for k in range(x.size - i * each):
                v = x[i * each + k]
                hit = False
                for c in range(table.size):
                    if v == table[c]:
                        byte |= np.uint8(c << (k * bits))
                        hit = True
                good = good & hit
            codes[i] = byte
        if not good:
            ok[0] = False

    return kernel


@lru_cache(maxsize=8)
def _decode_kernel(bits: int):
    each = 8 // bits
    mask = (1 << bits) - 1

    @numba.njit(nogil=True, cache=True)
    def kernel(codes, table, x, lo, hi):
        whole = min(hi, x.size // each)
        for i in range(lo, whole):
            byte = codes[i]
            for k in range(each):
                x[i * each + k] = table[(byte >> np.uint8(k * bits)) & np.uint8(mask)]
        for i in range(max(lo, whole), hi):
            for k in range(x.size - i * each):
                x[i * each + k] = table[(codes[i] >> np.uint8(k * bits)) & np.uint8(mask)]

    return kernel


@numba.njit(nogil=True, cache=True)
def _first_unknown(x, table):
    for i in range(x.size):
        known = False
        for c in range(table.size):
            known = known | (x[i] == table[c])
        if not known:
            return i
    return -1


def encode(x: Tensor, known: Tensor) -> tuple[Tensor, Tensor, int] | None:
    """Codes, table and bits of the patterns `x`, of which `known` are some; None for more than 16 different ones."""
    values = x.numpy()
    table = known.numpy()
    while len(table) <= _MOST:
        bits = 1 if len(table) <= 2 else 2 if len(table) <= 4 else 4
        codes = torch.empty(-(-len(values) * bits // 8), dtype=torch.uint8)
        ok = np.ones(1, np.bool_)
        kernel, array = _encode_kernel(bits), codes.numpy()
        over_range(lambda lo, hi, k=kernel, t=table, a=array, o=ok: k(values, t, a, o, lo, hi), np.array([len(array)]))
        if ok[0]:
            return codes, torch.from_numpy(table), bits
        table = np.append(table, values[_first_unknown(values, table)])
    return None


def decode(codes: Tensor, table: Tensor, bits: int, out: Tensor) -> None:
    """Fill `out` with the values that the codes stand for."""
    patterns = {2: torch.int16, 4: torch.int32, 8: torch.int64}[out.element_size()]
    arrays = [codes.numpy(), table.view(patterns).numpy(), out.view(patterns).numpy()]
    kernel = _decode_kernel(bits)
    over_range(lambda lo, hi: kernel(*arrays, lo, hi), np.array([codes.numel()]))
