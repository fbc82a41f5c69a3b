"""Energy of one operation at 45 nm and 0.9 V (Horowitz, ISSCC 2014, fig. 1.1.9), in pJ."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ranvier.errors import ArgumentError, nearest

# (add, multiply) in pJ by number format.
_MEASURED: dict[str, tuple[float, float]] = {
    "int8": (0.03, 0.2),
    "int32": (0.1, 3.1),
    "fp16": (0.4, 1.1),
    "fp32": (0.9, 3.7),
}

BIT_PJ: dict[str, float] = {
    "sram_8kb": 10 / 64,
    "sram_32kb": 20 / 64,
    "sram_1mb": 100 / 64,
    "dram_low": 1300 / 64,
    "dram_high": 2600 / 64,
    "step": 3.12,
}
"""Energy of moving one bit, by memory: SRAM of three sizes, the two ends of DRAM, and the figure of STEP."""


@dataclass(frozen=True)
class OpEnergy:
    """Energy of an addition and a multiplication in one number format, in pJ.

    `interpolated` says that the format was not measured: additions are linear in the width, multiplications quadratic.
    """

    format: str
    bits: int
    add: float
    mul: float
    interpolated: bool

    @property
    def mac(self) -> float:
        """One multiply-accumulate."""
        return self.mul + self.add


def op_energy(number_format: str) -> OpEnergy:
    """The energies of "fp32", "fp16", "int8", "int32", or of another width, "int2" to "int64" or "fp8" to "fp64".

    Raises `ArgumentError` for any other name.
    """
    match = re.fullmatch(r"(int|fp)(\d{1,2})", number_format) if isinstance(number_format, str) else None
    bits = int(match[2]) if match else 0
    if match is None or not (2 if match[1] == "int" else 8) <= bits <= 64:
        raise ArgumentError(
            f"the number format must be one of {', '.join(_MEASURED)} or another width of int (2 to 64) or fp (8 to "
            f"64), got {number_format!r}{nearest(str(number_format), _MEASURED)}"
        )
    if number_format in _MEASURED:
        return OpEnergy(number_format, bits, *_MEASURED[number_format], interpolated=False)
    low, high = (8, 32) if match[1] == "int" else (16, 32)
    (add_low, mul_low), (add_high, mul_high) = _MEASURED[f"{match[1]}{low}"], _MEASURED[f"{match[1]}{high}"]
    add = add_low + (add_high - add_low) * (bits - low) / (high - low)
    mul = mul_low + (mul_high - mul_low) * (bits**2 - low**2) / (high**2 - low**2)
    return OpEnergy(number_format, bits, add, mul, interpolated=True)


def bit_energy(memory: str | float) -> float:
    """pJ of moving one bit: a preset of `BIT_PJ` or a number."""
    if isinstance(memory, str):
        if memory not in BIT_PJ:
            raise ArgumentError(f"unknown memory {memory!r}{nearest(memory, BIT_PJ)}")
        return BIT_PJ[memory]
    if isinstance(memory, bool) or not memory >= 0 or memory == float("inf"):
        raise ArgumentError(f"memory must be a preset name or pJ per bit, zero or more, got {memory!r}")
    return float(memory)
