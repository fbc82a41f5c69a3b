"""Closed forms of compute energy for one layer, in pJ: a dense net, a quantised bit-serial one, a spiking one."""

from __future__ import annotations

from ranvier.errors import ArgumentError


def dense_pj(macs: float, mac_pj: float = 4.6) -> float:
    """`F · E_MAC`."""
    return macs * mac_pj


def bit_serial_pj(macs: float, bits: int, ones: float, add_pj: float = 0.9) -> float:
    """`F · B · ρ · E_AC`: a multiplication is up to `bits` shift-adds, those of zero bits (1 − `ones`) skipped."""
    _share("ones", ones)
    return macs * bits * ones * add_pj


def spiking_pj(macs: float, T: int, rate: float, add_pj: float = 0.9) -> float:
    """`F · T · R · E_AC`: an addition for every spike and synapse, in each of `T` steps at firing rate `rate`."""
    _share("rate", rate)
    return macs * T * rate * add_pj


def break_even_rate(T: int, bits: int, ones: float) -> float:
    """The firing rate at which a spiking layer costs what the bit-serial one does: `T·R = B·ρ` (compute alone)."""
    _share("ones", ones)
    if T < 1:
        raise ArgumentError(f"T must be at least 1, got {T!r}")
    return bits * ones / T


def _share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ArgumentError(f"{name} must lie in [0, 1], got {value!r}")
