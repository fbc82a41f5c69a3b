"""The basilar membrane: how fast each place of it moves for a sound at the ear."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ranvier.errors import ArgumentError
from ranvier.extras import require

Phase = Literal["causal", "published"]
_ASYMPTOTIC = 14.0  # from this argument on, six terms of Hankel's series are good to 1e-7


@dataclass(frozen=True)
class BasilarMembrane:
    """Frequency response of the hydrodynamic shallow-water membrane of Sieroka, Dosch and Rupp (2006).

    A travelling wave on a membrane whose stiffness falls along its `length` x as S(x) = c0 exp(−α x) − a, with mass m
    and resistance R(x) = r0 √(c0 m) exp(−α x / 2), in a fluid of density ρ and a channel of height h (cgs units). With
    the impedance ξ = S − m ω² − i ω R, the wave number is g = ω √(ρ / (h ξ)); its integral G(x), from the long-wave
    solution before the base on, has a closed form, and the pressure is p = √(G / g) H₀⁽¹⁾(G). The velocity at x is
    2 ω p(x) / (ξ(x) p(0)) times the input impedance of the ear. Parameters are those of the published conversion
    (Cramer, Stradmann, Schemmel and Zenke, "The Heidelberg Spiking Data Sets", IEEE TNNLS 2022).

    The published programme takes a wave exp(−iωt) to an inverse transform of exp(+iωt): every place of the membrane
    then moves *before* the sound, by 3 ms at 1 kHz and 30 ms at 100 Hz. `phase="causal"` conjugates the wave, so that
    it travels from the base to the apex; "published" keeps the sign.
    """

    alpha: float = 3.0
    c0: float = 1e9
    a: float = 3500.0
    mass: float = 0.05
    damping: float = 0.15
    rho: float = 1.0
    height: float = 0.1
    length: float = 3.5
    phase: Phase = "causal"

    def __post_init__(self) -> None:
        for name in ("alpha", "c0", "a", "mass", "damping", "rho", "height", "length"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not value > 0:
                raise ArgumentError(f"{name} must be a positive number, got {value!r}")
        if self.phase not in ("causal", "published"):
            raise ArgumentError(f"phase must be 'causal' or 'published', got {self.phase!r}")

    def places(self, channels: int) -> NDArray[np.float64]:
        """Where the channels lie, in cm from the base: channel 0 hears the highest frequency."""
        return np.linspace(0.0, self.length, channels)

    def impedance(self, omega: NDArray[Any], x: NDArray[Any]) -> NDArray[np.complex128]:
        """ξ(ω, x) of the membrane."""
        u = np.exp(-self.alpha * x / 2)
        friction = self.damping * np.sqrt(self.c0 * self.mass) * u
        return self.c0 * u * u - self.a - self.mass * omega**2 - 1j * omega * friction

    def wave_phase(self, omega: NDArray[Any], x: NDArray[Any]) -> NDArray[np.complex128]:
        """G(ω, x) = 2 g(0) / α + ∫₀ˣ g: with u = exp(−α x / 2) the integrand is du / (u √(quadratic in u))."""
        k = np.sqrt(self.a + self.mass * omega**2)
        friction = self.damping * np.sqrt(self.c0 * self.mass)
        base = np.sqrt(self.impedance(omega, np.zeros(1)))
        u = np.exp(-self.alpha * x / 2)
        at_base = -base - omega * friction / (2 * k) + 1j * k
        at_x = (-np.sqrt(self.impedance(omega, x)) - omega * friction * u / (2 * k) + 1j * k) / u
        speed = omega * np.sqrt(self.rho / self.height)
        return 2 * speed / (self.alpha * base) - 2j * speed / (self.alpha * k) * np.log(at_base / at_x)

    def velocity(self, omega: NDArray[Any], x: NDArray[Any]) -> NDArray[np.complex128]:
        """Velocity of the membrane at places `x` per unit of sound at angular frequencies `omega` (above 0), in the
        convention exp(+iωt) of `numpy.fft`. The two arrays broadcast."""
        root_xi = np.sqrt(self.impedance(omega, x))
        pressure = self._pressure(self.wave_phase(omega, x), omega, root_xi)
        zero = np.zeros(1)
        start = self._pressure(self.wave_phase(omega, zero), omega, np.sqrt(self.impedance(omega, zero)))
        wave = 2 * omega / root_xi**2 * pressure / start
        return (np.conj(wave) if self.phase == "causal" else wave) * self._input(omega)

    def _pressure(
        self, phase: NDArray[np.complex128], omega: NDArray[Any], root_xi: NDArray[np.complex128]
    ) -> NDArray[np.complex128]:
        number = omega * np.sqrt(self.rho / self.height) / root_xi
        return np.sqrt(phase / number) * hankel0(phase)

    def _input(self, omega: NDArray[Any]) -> NDArray[np.complex128]:
        special = require("scipy.special", extra="data")
        beta = 2 * omega / self.alpha * np.sqrt(2 / (self.height * self.c0))
        return 1j * np.sqrt(2 * self.c0 / self.height) * special.hankel2(0, beta) / special.hankel2(1, beta)

    def filters(self, channels: int, rate: float, taps: int) -> NDArray[np.complex64]:
        """Response of every channel at the frequencies of a real transform of `taps` samples, `[channels, taps/2+1]`.

        There is no movement at zero frequency.
        """
        omega = 2 * np.pi * np.fft.rfftfreq(taps, 1 / rate)[1:]
        out = np.zeros((channels, len(omega) + 1), np.complex64)
        for first in range(0, channels, 32):  # keeps the temporaries in the cache
            places = self.places(channels)[first : first + 32, None]
            out[first : first + 32, 1:] = self.velocity(omega, places)
        out[:, -1] = out[:, -1].real  # the last frequency of an even transform is real
        return out


def hankel0(z: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """H₀⁽¹⁾(z) for Re z ≥ 0, Im z ≥ 0: scipy's near zero, Hankel's asymptotic series beyond (DLMF 10.17.5)."""
    special = require("scipy.special", extra="data")
    term = np.ones_like(z)
    total = np.ones_like(z)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
        for n in range(1, 7):
            term = term * (-((2 * n - 1) ** 2) / (8 * n)) * 1j / z
            total = total + term
        out = np.sqrt(2 / (np.pi * z)) * np.exp(1j * (z - np.pi / 4)) * total
    near = np.abs(z) < _ASYMPTOTIC
    if near.any():
        out[near] = special.hankel1(0, z[near])
    return out
