"""Rasters in which spiking motifs, fixed sets of (neuron, relative time), hide in background activity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ranvier.errors import ArgumentError


@dataclass(frozen=True)
class SpikingMotifs:
    """`motifs` different motifs of `spikes` spikes each, on distinct ones of `neurons` neurons, within `span` steps.

    Args:
        rate: probability a step that each motif starts.
        background: probability a step that each neuron fires by itself.
        jitter: each spike of a motif comes up to that many steps early or late, at random.
        seed: of the motifs themselves.

    How many spikes a neuron fires says little of the motifs: when they come does.
    """

    neurons: int = 20
    motifs: int = 5
    spikes: int = 8
    span: int = 30
    rate: float = 0.005
    background: float = 0.02
    jitter: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("neurons", 1), ("motifs", 1), ("spikes", 1), ("span", 1), ("jitter", 0), ("seed", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ArgumentError(f"{name} must be an integer of at least {least}, got {value!r}")
        if self.spikes > self.neurons:
            raise ArgumentError(f"spikes must be at most the {self.neurons} neurons, got {self.spikes}")
        for name in ("rate", "background"):
            if not 0 <= getattr(self, name) <= 1:
                raise ArgumentError(f"{name} must lie in [0, 1], got {getattr(self, name)!r}")

    @property
    def reach(self) -> int:
        """Steps from the start of a motif to when the last of its spikes can come."""
        return self.span - 1 + self.jitter

    def patterns(self) -> Tensor:
        """int64 `[motifs, neurons]`: when each neuron fires after the start of the motif; −1 where it takes no part."""
        rng = np.random.Generator(np.random.Philox(self.seed))
        times = np.full((self.motifs, self.neurons), -1, np.int64)
        for pattern in times:
            pattern[rng.permutation(self.neurons)[: self.spikes]] = rng.integers(0, self.span, self.spikes)
        return torch.from_numpy(times)

    def raster(self, steps: int, seed: int = 0) -> tuple[Tensor, Tensor]:
        """`(spikes, ends)`: float32 `[steps, neurons]` in {0, 1}, and `[steps, motifs]`, 1 where a motif is complete:
        `reach` steps after its start."""
        if not isinstance(steps, int) or steps <= self.reach:
            raise ArgumentError(f"steps must be an integer above {self.reach}, got {steps!r}")
        rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([self.seed, seed])))
        spikes = rng.random((steps, self.neurons)) < self.background
        ends = np.zeros((steps, self.motifs), np.float32)
        for m, pattern in enumerate(self.patterns().numpy()):
            starts = np.flatnonzero(rng.random(steps - self.reach) < self.rate)
            ends[starts + self.reach, m] = 1
            for n in np.flatnonzero(pattern >= 0):
                late = rng.integers(-self.jitter, self.jitter + 1, len(starts))
                spikes[np.maximum(starts + pattern[n] + late, 0), n] = True
        return torch.from_numpy(spikes.astype(np.float32)), torch.from_numpy(ends)
