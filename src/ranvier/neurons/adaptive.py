"""LIF whose threshold rises with its own spikes."""

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


@NEURONS.register("alif")
class ALIF(MembraneNeuron):
    """Adaptive-threshold LIF (Bellec et al., NeurIPS 2018; in the scaling of Bellec et al., Nat. Commun. 2020):

        h = v + k (x − (v − v_reset)),   s = 1[h ≥ θ + β a],   then reset by θ + β a,   a ← ρ a + s,

    with k = 1/τ and ρ = exp(−1/τ_a); a starts at 0. With β = 0 it is `LIF`. `detach_reset` concerns the reset only: the
    adaptation always passes gradient.

    Args:
        tau: membrane time constant ≥ 1 in steps, or a 1-D tensor with one per channel.
        tau_adaptation: time constant τ_a > 0 of the threshold, in steps, or per channel.
        beta: rise β ≥ 0 of the threshold by a spike, or per channel.
        decay_input: whether the input is scaled by k too.
        learn: learn k and ρ (as σ of a number) and β, one a layer or one a channel.
        channels: number of channels for learned parameters per channel.
        threshold, v_reset, reset, detach_reset, surrogate, channel_axis: as in `LIF`; soft reset by default.
    """

    state_names = ("v", "a")

    def __init__(
        self,
        tau: Parameter = 2.0,
        tau_adaptation: Parameter = 10.0,
        beta: Parameter = 0.2,
        threshold: Parameter = 1.0,
        v_reset: float = 0.0,
        reset: Reset = "soft",
        detach_reset: bool = True,
        decay_input: bool = True,
        surrogate: str | dict[str, Any] | Surrogate = "sigmoid",
        learn: bool = False,
        channels: int | None = None,
        channel_axis: int = 2,
    ) -> None:
        super().__init__(threshold, surrogate, channel_axis, reset, v_reset, detach_reset)
        self.decay_input = decay_input
        self.learn = learn
        self.tau: Parameter
        self.tau_adaptation: Parameter
        self.beta: Parameter
        if learn:
            tau_m = check_number("tau", tau, lambda t: t > 1, "a number > 1 to be learned")  # pyright: ignore
            tau_a = check_number("tau_adaptation", tau_adaptation, lambda t: t > 0, "a positive number")  # pyright: ignore
            rise = check_number("beta", beta, lambda b: b >= 0, "a number >= 0")  # pyright: ignore
            self.decay_logit = self.learned(logit(1 / tau_m), channels)
            self.adaptation_logit = self.learned(logit(math.exp(-1 / tau_a)), channels)
            self.beta = self.learned(rise, channels)
        else:
            self.constant("tau", tau, lambda t: t >= 1, "a number >= 1 (in steps)")
            self.constant("tau_adaptation", tau_adaptation, lambda t: t > 0, "a positive number (in steps)")
            self.constant("beta", beta, lambda b: b >= 0, "a number >= 0")

    def _decays(self) -> tuple[Parameter, Parameter]:
        if self.learn:
            return torch.sigmoid(self.decay_logit), torch.sigmoid(self.adaptation_logit)
        rho = self.tau_adaptation
        return 1 / self.tau, torch.exp(-1 / rho) if isinstance(rho, Tensor) else math.exp(-1 / rho)

    def initial_state(self, like: Tensor) -> State:
        return self.at_rest(like, self.v_reset), self.at_rest(like)

    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        v, a = state
        k, rho = (self.aligned(p, v) for p in self._decays())
        x = x_t.to(v.dtype)
        h = v + k * (x - (v - self.v_reset)) if self.decay_input else v - k * (v - self.v_reset) + x
        threshold = self.aligned(self.threshold, v) + self.aligned(self.beta, v) * a
        s = self.surrogate(h - threshold)
        return s.to(x_t.dtype), (self.after_spike(h, s, threshold), rho * a + s)
