"""The exponential integrate-and-fire neuron."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ranvier.errors import ArgumentError
from ranvier.neurons.leaky import Parameter, Reset
from ranvier.neurons.membrane import MembraneNeuron, check_number
from ranvier.neurons.registry import NEURONS
from ranvier.state import State
from ranvier.surrogates import Surrogate


@NEURONS.register("eif")
class EIF(MembraneNeuron):
    """Exponential integrate-and-fire (Fourcaud-Trocmé et al., J. Neurosci. 2003):

        h = v + (x − v + Δ exp((v − θ_rh)/Δ)) / τ,   s = 1[h ≥ θ],   then reset.

    The drift −v + Δ exp((v − θ_rh)/Δ) has its minimum Δ − θ_rh at v = θ_rh, so the neuron has a resting point exactly
    when Δ < θ_rh. The constants in use elsewhere (Δ = 1, θ_rh = 0.8: BrainCog, STEP) have none: such a neuron fires by
    itself, every 8 steps without any input. The default here (Δ = 0.2) rests at v = 0.003732; give
    `allow_self_firing=True` to have the other.

    Above θ the exponential is held at its value at θ, which changes nothing with a hard reset and keeps a soft one
    (whose membrane may stay above θ) from overflowing.

    Args:
        tau: membrane time constant τ ≥ 1 in steps, or a 1-D tensor with one per channel.
        delta: sharpness Δ > 0 of the spike onset.
        rheobase: θ_rh > 0, where the exponential takes over.
        threshold: θ > 0, or a 1-D tensor with one per channel.
        v_reset: membrane before the first step and after a hard reset.
        allow_self_firing: accept Δ ≥ θ_rh.
        reset, detach_reset, surrogate, channel_axis: as in `LIF`.
    """

    state_names = ("v",)

    def __init__(
        self,
        tau: Parameter = 2.0,
        delta: float = 0.2,
        rheobase: float = 0.8,
        threshold: Parameter = 1.0,
        v_reset: float = -0.1,
        reset: Reset = "hard",
        detach_reset: bool = True,
        surrogate: str | dict[str, Any] | Surrogate = "sigmoid",
        allow_self_firing: bool = False,
        channel_axis: int = 2,
    ) -> None:
        super().__init__(threshold, surrogate, channel_axis, reset, v_reset, detach_reset)
        self.tau: Parameter
        self.constant("tau", tau, lambda t: t >= 1, "a number >= 1 (in steps)")
        self.delta = check_number("delta", delta, lambda v: v > 0, "a positive number")
        self.rheobase = check_number("rheobase", rheobase, lambda v: v > 0, "a positive number")
        if self.delta >= self.rheobase and not allow_self_firing:
            raise ArgumentError(
                f"delta={delta!r} must be below rheobase={rheobase!r}: otherwise the neuron has no resting point and "
                "fires without input; give allow_self_firing=True if that is wanted"
            )

    def initial_state(self, like: Tensor) -> State:
        return (self.at_rest(like, self.v_reset),)

    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        (v,) = state
        threshold, tau = self.aligned(self.threshold, v), self.aligned(self.tau, v)
        onset = self.delta * torch.exp((torch.minimum(v, threshold) - self.rheobase) / self.delta)
        h = v + (x_t.to(v.dtype) - v + onset) / tau
        s = self.surrogate(h - threshold)
        return s.to(x_t.dtype), (self.after_spike(h, s, threshold),)
