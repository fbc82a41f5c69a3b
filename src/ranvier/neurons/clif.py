"""LIF with a complementary membrane that remembers recent spikes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ranvier.neurons.leaky import Parameter
from ranvier.neurons.membrane import MembraneNeuron
from ranvier.neurons.registry import NEURONS
from ranvier.state import State
from ranvier.surrogates import Surrogate


@NEURONS.register("clif")
class CLIF(MembraneNeuron):
    """Complementary LIF (Huang et al., ICML 2024): a second membrane m opens another path for the gradient in time:

        h = (1 − 1/τ) v + x,   s = 1[h ≥ θ],   m ← m σ(h/τ) + s,   v = h − s (θ + σ(m)).

    m starts at 0, so the first spike takes θ + σ(1) = θ + 0.7311. The threshold is an argument here; released versions
    fix it at 1, which silently loses the lower threshold that models want after an attention product. `detach_reset`
    cuts the factor s of the reset only: the path through m, which the neuron exists for, always stays.

    Args:
        tau: time constant τ ≥ 1 in steps, or a 1-D tensor with one per channel.
        threshold, detach_reset, surrogate, channel_axis: as in `LIF`.
    """

    state_names = ("v", "m")

    def __init__(
        self,
        tau: Parameter = 2.0,
        threshold: Parameter = 1.0,
        detach_reset: bool = True,
        surrogate: str | dict[str, Any] | Surrogate = "rectangle",
        channel_axis: int = 2,
    ) -> None:
        super().__init__(threshold, surrogate, channel_axis, "soft", 0.0, detach_reset)
        self.tau: Parameter
        self.constant("tau", tau, lambda t: t >= 1, "a number >= 1 (in steps)")

    def initial_state(self, like: Tensor) -> State:
        return self.at_rest(like), self.at_rest(like)

    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        v, m = state
        threshold, tau = self.aligned(self.threshold, v), self.aligned(self.tau, v)
        h = v - v / tau + x_t.to(v.dtype)
        s = self.surrogate(h - threshold)
        m = m * torch.sigmoid(h / tau) + s
        return s.to(x_t.dtype), (self.after_spike(h, s, threshold + torch.sigmoid(m)), m)
