"""LIF with a synaptic current of its own."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ranvier.neurons.leaky import Parameter, Reset
from ranvier.neurons.membrane import MembraneNeuron, check_number, logit
from ranvier.neurons.registry import NEURONS
from ranvier.state import State
from ranvier.surrogates import Surrogate


@NEURONS.register("cuba_lif")
class CubaLIF(MembraneNeuron):
    """Current-based LIF: an exponential synapse feeds an exponential membrane (Ren et al., SpikePoint, ICLR 2024, in
    the text; Zenke and Ganguli, 2018):

        i ← a i + x,   h = v_reset + b (v − v_reset) + i,   s = 1[h ≥ θ],   then reset,

    with a = exp(−1/τ_syn) and b = exp(−1/τ_mem).

    Args:
        tau_synapse, tau_membrane: time constants > 0 in steps, or 1-D tensors with one per channel.
        learn: learn a and b (as σ of a number), one a layer or one a channel.
        channels: number of channels for learned decays per channel.
        threshold, v_reset, reset, detach_reset, surrogate, channel_axis: as in `LIF`; soft reset by default.
    """

    state_names = ("i", "v")

    def __init__(
        self,
        tau_synapse: Parameter = 2.0,
        tau_membrane: Parameter = 2.0,
        threshold: Parameter = 1.0,
        v_reset: float = 0.0,
        reset: Reset = "soft",
        detach_reset: bool = True,
        surrogate: str | dict[str, Any] | Surrogate = "sigmoid",
        learn: bool = False,
        channels: int | None = None,
        channel_axis: int = 2,
    ) -> None:
        super().__init__(threshold, surrogate, channel_axis, reset, v_reset, detach_reset)
        self.learn = learn
        self.synapse: Parameter
        self.membrane: Parameter
        for name, tau in (("synapse", tau_synapse), ("membrane", tau_membrane)):
            if learn:
                number = check_number(f"tau_{name}", tau, lambda t: t > 0, "a positive number")  # pyright: ignore
                setattr(self, name, self.learned(logit(math.exp(-1 / number)), channels))
                continue
            self.constant(f"tau_{name}", tau, lambda t: t > 0, "a positive number (in steps)")
            kept = getattr(self, f"tau_{name}")
            if isinstance(kept, Tensor):
                self.register_buffer(name, torch.exp(-1 / kept), persistent=False)
            else:
                setattr(self, name, math.exp(-1 / kept))

    def decays(self) -> tuple[Any, Any]:
        """(a, b), the shares of the current and of the membrane that are kept in a step."""
        pair = (self.synapse, self.membrane)
        return tuple(torch.sigmoid(p) if self.learn else p for p in pair)  # pyright: ignore

    def initial_state(self, like: Tensor) -> State:
        return self.at_rest(like), self.at_rest(like, self.v_reset)

    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        i, v = state
        a, b = (self.aligned(p, v) for p in self.decays())
        threshold = self.aligned(self.threshold, v)
        i = a * i + x_t.to(v.dtype)
        h = self.v_reset + b * (v - self.v_reset) + i
        s = self.surrogate(h - threshold)
        return s.to(x_t.dtype), (i, self.after_spike(h, s, threshold))
