"""LIF with a learned scale of the membrane."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ranvier.neurons.leaky import Parameter, Reset
from ranvier.neurons.membrane import MembraneNeuron, check_number
from ranvier.neurons.registry import NEURONS
from ranvier.state import State
from ranvier.surrogates import Surrogate


@NEURONS.register("klif")
class KLIF(MembraneNeuron):
    """KLIF (Jiang and Zhang, 2023): a learned factor sets the slope of the surrogate and the height of the membrane:

        c = v + (x − (v − v_reset))/τ,   h = ReLU(k c),   s = 1[h ≥ θ],   then reset of h.

    With k = 1 it is `LIF` as long as the membrane is not negative. k starts at `k` and must stay positive to be of
    use; nothing enforces that.

    Args:
        k: initial factor, > 0.
        channels: number of channels for one factor a channel, None for one a layer.
        tau, threshold, v_reset, reset, detach_reset, surrogate, channel_axis: as in `LIF`.
    """

    state_names = ("v",)

    def __init__(
        self,
        tau: Parameter = 2.0,
        k: float = 1.0,
        threshold: Parameter = 1.0,
        v_reset: float = 0.0,
        reset: Reset = "hard",
        detach_reset: bool = True,
        surrogate: str | dict[str, Any] | Surrogate = "sigmoid",
        channels: int | None = None,
        channel_axis: int = 2,
    ) -> None:
        super().__init__(threshold, surrogate, channel_axis, reset, v_reset, detach_reset)
        self.tau: Parameter
        self.constant("tau", tau, lambda t: t >= 1, "a number >= 1 (in steps)")
        self.k = self.learned(check_number("k", k, lambda v: v > 0, "a positive number"), channels)

    def initial_state(self, like: Tensor) -> State:
        return (self.at_rest(like, self.v_reset),)

    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        (v,) = state
        threshold, tau, k = (self.aligned(p, v) for p in (self.threshold, self.tau, self.k))
        h = torch.relu(k * (v + (x_t.to(v.dtype) - (v - self.v_reset)) / tau))
        s = self.surrogate(h - threshold)
        return s.to(x_t.dtype), (self.after_spike(h, s, threshold),)
