"""What the stages cost in energy and time.

Constants follow the literature of sensing-to-action loops (Trivedi et al. 2025; 45 nm arithmetic: 4.6 pJ a
multiply-accumulate, 0.9 pJ an addition); those that nobody published are chosen and can be set.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from ranvier.errors import ArgumentError


def _check(model: object) -> None:
    for field in fields(model):  # pyright: ignore[reportArgumentType]
        value = getattr(model, field.name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
            raise ArgumentError(f"{field.name} must be a number >= 0, got {value!r}")


@dataclass(frozen=True)
class EnergyModel:
    """Energies; every method gives nanojoules, rounded up to whole ones per call.

    A laser beam fired to range R costs E_b [(1 − c) (R/R_max)⁴ + c] (R-MAE: pulse energy grows with R⁴).

    Args:
        beam_mj: E_b, millijoules of a beam at full range (72 mJ for a scan of 120).
        beam_floor: c, the share that does not depend on the range (chosen).
        camera_static_mw, event_nj: an event camera (chosen).
        ac_pj, mac_pj: an addition and a multiply-accumulate.
        bit_nj: a bit on the radio (chosen).
    """

    beam_mj: float = 0.6
    beam_floor: float = 0.1
    camera_static_mw: float = 5.0
    event_nj: float = 0.5
    ac_pj: float = 0.9
    mac_pj: float = 4.6
    bit_nj: float = 50.0

    def __post_init__(self) -> None:
        _check(self)
        if self.beam_floor > 1:
            raise ArgumentError(f"beam_floor must be in [0, 1], got {self.beam_floor}")

    def beams(self, count: Tensor, gate: Tensor, max_range: float) -> Tensor:
        """`count` beams fired to range `gate` (metres)."""
        share = (1 - self.beam_floor) * (gate / max_range) ** 4 + self.beam_floor
        return _up(count * share * (self.beam_mj * 1e6))

    def camera(self, events: Tensor, duration_us: int) -> Tensor:
        """An event camera that ran for `duration_us` and sent `events`."""
        return _up(events * self.event_nj + self.camera_static_mw * duration_us)  # mW us = nJ

    def network(self, acs: Tensor, macs: Tensor) -> Tensor:
        """A network of `acs` additions and `macs` multiply-accumulates."""
        return _up((acs * self.ac_pj + macs * self.mac_pj) * 1e-3)

    def radio(self, bits: Tensor) -> Tensor:
        """`bits` sent."""
        return _up(bits * self.bit_nj)


@dataclass(frozen=True)
class LatencyModel:
    """Durations; every method gives whole microseconds, rounded up per call (all chosen).

    Args:
        beam_us: one laser beam.
        camera_us: reading out an event camera.
        ops_per_us: operations a microsecond of the processor (10 GOPS).
        radio_us, bits_per_us: a message takes `radio_us` plus its bits (1 Mbit/s).
        actuation_us: from the command to the motion.
        extra_us: added to the computation, to study feedback delay.
    """

    beam_us: float = 20.0
    camera_us: float = 10.0
    ops_per_us: float = 1e4
    radio_us: float = 2000.0
    bits_per_us: float = 1.0
    actuation_us: float = 5000.0
    extra_us: float = 0.0

    def __post_init__(self) -> None:
        _check(self)
        if not self.ops_per_us or not self.bits_per_us:
            raise ArgumentError("ops_per_us and bits_per_us must be positive")

    @classmethod
    def zero(cls, extra_us: float = 0.0) -> LatencyModel:
        """Everything at once (but for `extra_us` of computation)."""
        return cls(0.0, 0.0, float(1 << 62), 0.0, float(1 << 62), 0.0, extra_us)

    def beams(self, count: Tensor) -> Tensor:
        """Firing `count` beams one after the other."""
        return _up(count * self.beam_us)

    def compute(self, ops: Tensor) -> Tensor:
        """`ops` operations, and the injected delay."""
        return _up(ops / self.ops_per_us) + int(self.extra_us)

    def radio(self, bits: Tensor) -> Tensor:
        """A message of `bits` bits; nothing where there is none."""
        return torch.where(bits > 0, _up(bits / self.bits_per_us + self.radio_us), 0)


def _up(amount: Tensor) -> Tensor:
    """Rounded up to whole units; a billionth above a whole one is rounding error of float64, not a unit."""
    return torch.ceil(amount.double() - 1e-6).long()
