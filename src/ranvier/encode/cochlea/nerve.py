"""From the movement of the membrane to spikes: inner hair cells and the bushy cells that they drive."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranvier.errors import ArgumentError


@dataclass(frozen=True)
class HairCell:
    """Meddis' hair cell: transmitter moves between a pool q, the cleft c and a store w (JASA 1986, 1988).

    With movement v: permeability k = g (v + a) / (v + a + b), or 0 below −a; q' = y (m − q) (not below 0) − k q + x w;
    c' = k q − (l + r) c; w' = r c − x w; the fibre fires with the probability h c in a second. Rates in 1/s, by
    Euler's rule at the sampling rate; the cell starts at rest.
    """

    y: float = 5.05
    g: float = 2000.0
    l: float = 2500.0  # noqa: E741 - the name in the publication
    r: float = 6580.0
    x: float = 66.3
    a: float = 5.0
    b: float = 300.0
    h: float = 50000.0
    m: float = 1.0

    def __post_init__(self) -> None:
        _check_positive(self, "y", "g", "l", "r", "x", "a", "b", "h", "m")

    def rest(self) -> tuple[float, float, float]:
        """`(q, c, w)` in silence."""
        k = self.g * self.a / (self.a + self.b)
        c = self.m * self.y * k / (self.l * k + self.y * (self.l + self.r))
        return c * (self.l + self.r) / k, c, c * self.r / self.x

    def steps(self, rate: float) -> NDArray[np.float64]:
        """`(y, g, l + r, r, x, h)` per sample, then a, b and m."""
        per_sample = np.array([self.y, self.g, self.l + self.r, self.r, self.x, self.h]) / rate
        return np.concatenate([per_sample, [self.a, self.b, self.m]])

    def firing(self, velocity: NDArray[np.floating], rate: float) -> NDArray[np.float64]:
        """Firing probability of one fibre per sample, `[samples, channels]`: the definition in NumPy."""
        y, g, lr, r, x, h, a, b, m = self.steps(rate)
        q, c, w = (np.full(velocity.shape[1], value) for value in self.rest())
        out = np.empty(velocity.shape)
        for t, v in enumerate(np.asarray(velocity, np.float64)):
            drive = np.maximum(v + a, 0)
            k = g * drive / (drive + b)
            replenish, eject, reprocess = np.maximum(y * (m - q), 0), k * q, x * w
            q = np.maximum(q + replenish - eject + reprocess, 0)
            c, w = np.maximum(c + eject - lr * c, 0), np.maximum(w + r * c - reprocess, 0)
            out[t] = c * h
        return out


@dataclass(frozen=True)
class BushyCell:
    """A leaky integrate-and-fire cell on which `fibres` hair-cell fibres of one channel converge.

    Every fibre fires at random with the hair cell's probability and is then silent for `refractory` seconds; its spike
    adds one to a synaptic current that decays with `tau_syn`. The membrane decays with `tau_mem`, gains
    `weight / fibres` times the current a second, fires at 1, and stays at 0 for `refractory` seconds.
    """

    fibres: int = 40
    tau_mem: float = 1e-3
    tau_syn: float = 5e-4
    refractory: float = 1e-3
    weight: float = 13e3

    def __post_init__(self) -> None:
        _check_positive(self, "tau_mem", "tau_syn", "refractory", "weight")
        if not isinstance(self.fibres, int) or not 1 <= self.fibres <= 255:
            raise ArgumentError(f"fibres must be an integer from 1 to 255, got {self.fibres!r}")

    def steps(self, rate: float) -> NDArray[np.float64]:
        """Decay of the membrane and of the synapse over one sample, and what one unit of current adds."""
        return np.array(
            [np.exp(-1 / (rate * self.tau_mem)), np.exp(-1 / (rate * self.tau_syn)), self.weight / self.fibres / rate]
        )

    def refractory_samples(self, rate: float) -> int:
        """Samples from a spike to the first one that may carry another."""
        return max(1, int(np.ceil(self.refractory * rate - 1e-9)))

    def spikes(self, arrivals: NDArray[np.integer], rate: float) -> NDArray[np.bool_]:
        """Spikes `[samples, channels]` of the cells for `arrivals` fibre spikes: the definition in NumPy."""
        mem, syn, gain = self.steps(rate)
        pause = self.refractory_samples(rate)
        v, current = np.zeros(arrivals.shape[1]), np.zeros(arrivals.shape[1])
        waits = np.zeros(arrivals.shape[1], np.int64)
        out = np.zeros(arrivals.shape, np.bool_)
        for t, count in enumerate(arrivals):
            fired = (waits <= 0) & (v >= 1)
            if t:
                out[t - 1] = fired
            waits[fired] = pause
            v = np.where(fired, 0.0, np.where(waits <= 0, v * mem, v))
            current = current * syn + count
            v = np.where(waits <= 0, np.minimum(v + current * gain, 1.0), v)
            waits -= 1
        return out


def _check_positive(cell: object, *names: str) -> None:
    for name in names:
        value = getattr(cell, name)
        if not isinstance(value, int | float) or not 0 < value < np.inf:
            raise ArgumentError(f"{name} must be a positive number, got {value!r}")
