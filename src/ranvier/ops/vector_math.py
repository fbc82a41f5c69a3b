# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportCallIssue=false
"""Arithmetic for Numba loops that LLVM turns into vector code: libm's functions would keep a float32 loop scalar."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic


@intrinsic
def float_from_bits(typingctx: Any, bits: Any) -> Any:
    """The float32 with this int32 pattern."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.int32), codegen


@intrinsic
def bits_of_float(typingctx: Any, value: Any) -> Any:
    """The int32 pattern of a float32."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.IntType(32))

    return types.int32(types.float32), codegen


@intrinsic
def select(typingctx: Any, condition: Any, yes: Any, no: Any) -> Any:
    """`yes if condition else no` as one instruction, never a branch; both arms have the same type."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(args[0], args[1], args[2])

    return yes(types.boolean, yes, yes), codegen


@numba.njit(inline="always")
def exp_minus32(z):
    """exp(−z) for z ≥ 0 in float32 within 2 ulp."""
    z = min(z, np.float32(87.0))
    whole = np.int32(z * np.float32(1.4426950408889634) + np.float32(0.5))
    n = np.float32(whole)
    f = (n * np.float32(0.693359375) - z) - n * np.float32(2.12194440e-4)  # in [-0.35, 0.35], ln 2 in two parts
    return _exp_near_zero32(f) * float_from_bits(np.int32((np.int32(127) - whole) << np.int32(23)))


@numba.njit(inline="always")
def exp32(x):
    """exp(x) in float32 within 2 ulp for every x: overflow gives inf, underflow runs through the denormals, NaN stays.

    The nearest whole power of two is found by adding 1.5·2²³, whose low mantissa bits then hold it: no conversion to an
    integer, which would be undefined for NaN.
    """
    z = select(x > np.float32(88.75), np.float32(88.75), x)
    z = select(z < np.float32(-104.0), np.float32(-104.0), z)
    shifted = z * np.float32(1.4426950408889634) + np.float32(12582912.0)
    n = shifted - np.float32(12582912.0)
    f = (z - n * np.float32(0.693359375)) + n * np.float32(2.12194440e-4)
    whole = np.int32(bits_of_float(shifted) - np.int32(0x4B400000))
    first = np.int32(whole >> np.int32(1))  # in two factors, because 2^128 and 2^-150 are no normal float32
    second = np.int32(whole - first)
    a = float_from_bits(np.int32((first + np.int32(127)) << np.int32(23)))
    b = float_from_bits(np.int32((second + np.int32(127)) << np.int32(23)))
    return _exp_near_zero32(f) * a * b


@numba.njit(inline="always")
def _exp_near_zero32(f):
    p = np.float32(1.9875691500e-4)  # Cephes' polynomial for |f| ≤ ln(2)/2
    p = p * f + np.float32(1.3981999507e-3)
    p = p * f + np.float32(8.3334519073e-3)
    p = p * f + np.float32(4.1665795894e-2)
    p = p * f + np.float32(1.6666665459e-1)
    p = p * f + np.float32(5.0000001201e-1)
    return (p * (f * f) + f) + np.float32(1.0)


@numba.njit(inline="always")
def tanh32(x):
    """tanh(x) in float32 within 4 ulp: an odd polynomial (Cephes' coefficients) near zero, exponentials beyond."""
    size = abs(x)
    e = exp32(np.float32(-2.0) * size)
    far = (np.float32(1.0) - e) / (np.float32(1.0) + e)
    far = select(x < np.float32(0.0), -far, far)
    q = x * x
    p = np.float32(-5.70498872745e-3)
    p = p * q + np.float32(2.06390887954e-2)
    p = p * q + np.float32(-5.37397155531e-2)
    p = p * q + np.float32(1.33314422036e-1)
    p = p * q + np.float32(-3.33332819422e-1)
    return select(size < np.float32(0.625), p * q * x + x, far)
