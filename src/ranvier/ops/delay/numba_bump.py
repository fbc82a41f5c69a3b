"""CPU kernels that build the bumps of all synapses, and their gradients: one pass over blocks of synapses.

A block's bumps stay in the first-level cache; the loops run over synapses, so that the exponential is vector code.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numba
import numpy as np
from torch import Tensor

from ranvier.ops.array_access import select
from ranvier.ops.delay.reference import EPS
from ranvier.ops.parallel import in_slices
from ranvier.ops.vector_math import kernel_exp_minus32

BLOCK = 128


# The indices are unsigned, because Numba adds a wrap-around test to signed ones, which keeps the loops scalar.


@lru_cache(maxsize=8)
def _build(gauss: bool, single: bool) -> Callable[..., None]:
    @numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "nsz", "reassoc"})
    def build(weight, delay, kernel, taps, synapses, pairs, lo, hi, s):
        one, half, zero = weight.dtype.type(1), weight.dtype.type(0.5), weight.dtype.type(0)
        eps, last = weight.dtype.type(EPS), weight.dtype.type(taps - 1)
        p = np.empty(BLOCK, weight.dtype)
        z = np.empty(BLOCK, weight.dtype)
        g = np.empty(taps * BLOCK, weight.dtype)
        inverse, count = one / s, np.uint64(pairs)
        for start in range(lo, hi, BLOCK):
            n, base = np.uint64(min(BLOCK, hi - start)), np.uint64(start)
            for c in range(count):
                for j in range(n):
                    p[j] = last - delay[(base + j) * count + c]
                    z[j] = eps
                for t in range(np.uint64(taps)):
                    at, row = weight.dtype.type(t), t * np.uint64(BLOCK)
                    for j in range(n):
                        if gauss:
                            u = (at - p[j]) * inverse
                            value = kernel_exp_minus32(half * u * u) if single else math.exp(-half * u * u)
                        else:
                            value = max(s - abs(at - p[j]), zero)
                        g[row + j] = value
                        z[j] += value
                for j in range(n):
                    z[j] = weight[(base + j) * count + c] / z[j]
                for t in range(np.uint64(taps)):
                    row, out = t * np.uint64(BLOCK), t * np.uint64(synapses) + base
                    if c == np.uint64(0):
                        for j in range(n):
                            kernel[out + j] = g[row + j] * z[j]
                    else:
                        for j in range(n):
                            kernel[out + j] += g[row + j] * z[j]

    return build


@lru_cache(maxsize=8)
def _build_backward(gauss: bool, single: bool) -> Callable[..., None]:
    @numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "nsz", "reassoc"})
    def backward(weight, delay, grad, grad_weight, grad_delay, taps, synapses, pairs, lo, hi, s):
        # with q_n = g_n / Z and g'_n = ∂g_n/∂p:  ∂k_n/∂w = q_n,  ∂k_n/∂p = w (g'_n − q_n Σ_m g'_m) / Z,  ∂p/∂d = −1
        one, half, zero = weight.dtype.type(1), weight.dtype.type(0.5), weight.dtype.type(0)
        eps, last = weight.dtype.type(EPS), weight.dtype.type(taps - 1)
        p = np.empty(BLOCK, weight.dtype)
        sums = np.empty(4 * BLOCK, weight.dtype)  # Z, Σ G_n g_n, Σ g'_n, Σ G_n g'_n
        inverse, count = one / s, np.uint64(pairs)
        second, third, fourth = np.uint64(BLOCK), np.uint64(2 * BLOCK), np.uint64(3 * BLOCK)
        for start in range(lo, hi, BLOCK):
            n, base = np.uint64(min(BLOCK, hi - start)), np.uint64(start)
            for c in range(count):
                sums[:] = zero
                for j in range(n):
                    p[j] = last - delay[(base + j) * count + c]
                    sums[j] = eps
                for t in range(np.uint64(taps)):
                    at, row = weight.dtype.type(t), t * np.uint64(synapses) + base
                    for j in range(n):
                        distance = at - p[j]
                        if gauss:
                            u = distance * inverse
                            value = kernel_exp_minus32(half * u * u) if single else math.exp(-half * u * u)
                            change = value * u * inverse
                        else:
                            value = max(s - abs(distance), zero)
                            sign = select(distance > zero, one, select(distance < zero, -one, zero))
                            change = select(value > zero, sign, zero)
                        upstream = grad[row + j]
                        sums[j] += value
                        sums[second + j] += upstream * value
                        sums[third + j] += change
                        sums[fourth + j] += upstream * change
                for j in range(n):
                    synapse = (base + j) * count + c
                    z = sums[j]
                    mean = sums[second + j] / z
                    grad_weight[synapse] = mean
                    grad_delay[synapse] = -weight[synapse] * (sums[fourth + j] - mean * sums[third + j]) / z

    return backward


def build(weight: Tensor, delay: Tensor, s: float, gauss: bool, kernel: Tensor) -> None:
    """Fill `kernel` `[K, S]` from `weight` and `delay` `[S, C]` (contiguous, float32 or float64)."""
    w, d, k = (t.reshape(-1).numpy() for t in (weight, delay, kernel))
    function = _build(gauss, w.dtype == np.float32)
    (taps, synapses), pairs, width = kernel.shape, weight.shape[1], w.dtype.type(s)
    in_slices(lambda lo, hi: function(w, d, k, taps, synapses, pairs, lo, hi, width), synapses, k.size * pairs)


def build_backward(
    weight: Tensor, delay: Tensor, s: float, gauss: bool, grad: Tensor, grad_weight: Tensor, grad_delay: Tensor
) -> None:
    """Fill the gradients `[S, C]` from `grad` `[K, S]`, that of the kernel; all contiguous."""
    arrays = [t.view(-1).numpy() for t in (weight, delay, grad, grad_weight, grad_delay)]
    function = _build_backward(gauss, arrays[0].dtype == np.float32)
    (taps, synapses), pairs, width = grad.shape, weight.shape[1], arrays[0].dtype.type(s)
    in_slices(
        lambda lo, hi: function(*arrays, taps, synapses, pairs, lo, hi, width), synapses, grad.numel() * pairs
    )  # fmt: skip
