"""Functions of a float32 as arithmetic that LLVM turns into vector code: libm's would keep a loop scalar."""

from __future__ import annotations

from ranvier.ops.direct_loops import Number, bits_of_float, float_from_bits, real, scalar, select, smaller, whole


def exp_minus32(z: Number) -> Number:
    """exp(−z) for z ≥ 0 in float32 within 2 ulp."""
    z = smaller(z, 87.0)
    power = whole(z * 1.4426950408889634 + 0.5)
    n = real(power)
    f = (n * 0.693359375 - z) - n * 2.12194440e-4  # in [-0.35, 0.35], ln 2 in two parts
    return _exp_near_zero32(f) * float_from_bits((127 - power) << 23)


def exp32(x: Number) -> Number:
    """exp(x) in float32 within 2 ulp for every x: overflow gives inf, underflow runs through the denormals, NaN stays.

    The nearest whole power of two is found by adding 1.5·2²³, whose low mantissa bits then hold it: no conversion to an
    integer, which would be undefined for NaN.
    """
    z = select(x > 88.75, 88.75, x)
    z = select(z < -104.0, -104.0, z)
    shifted = z * 1.4426950408889634 + 12582912.0
    n = shifted - 12582912.0
    f = (z - n * 0.693359375) + n * 2.12194440e-4
    power = bits_of_float(shifted) - 0x4B400000
    first = power >> 1  # in two factors, because 2^128 and 2^-150 are no normal float32
    second = power - first
    a, b = (float_from_bits((half + 127) << 23) for half in (first, second))
    return _exp_near_zero32(f) * a * b


def _exp_near_zero32(f: Number) -> Number:
    p = f.like(1.9875691500e-4)  # Cephes' polynomial for |f| ≤ ln(2)/2
    p = p * f + 1.3981999507e-3
    p = p * f + 8.3334519073e-3
    p = p * f + 4.1665795894e-2
    p = p * f + 1.6666665459e-1
    p = p * f + 5.0000001201e-1
    return (p * (f * f) + f) + 1.0


def tanh32(x: Number) -> Number:
    """tanh(x) in float32 within 4 ulp: an odd polynomial (Cephes' coefficients) near zero, exponentials beyond."""
    size = abs(x)
    e = exp32(-2.0 * size)
    far = (1.0 - e) / (1.0 + e)
    far = select(x < 0.0, -far, far)
    q = x * x
    p = x.like(-5.70498872745e-3)
    p = p * q + 2.06390887954e-2
    p = p * q + -5.37397155531e-2
    p = p * q + 1.33314422036e-1
    p = p * q + -3.33332819422e-1
    return select(size < 0.625, p * q * x + x, far)


kernel_exp_minus32 = scalar(exp_minus32)  # for kernels whose loops are Numba's
