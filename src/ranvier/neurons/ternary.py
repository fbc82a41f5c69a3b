"""Integrate-and-fire with spikes of both signs."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ranvier.neurons.leaky import Parameter
from ranvier.neurons.membrane import MembraneNeuron, check_number
from ranvier.neurons.registry import NEURONS
from ranvier.state import State
from ranvier.surrogates import Surrogate


@NEURONS.register("neg_if")
class NegIF(MembraneNeuron):
    """Negative IF (Fang et al., Spiking Wavelet Transformer, ECCV 2024): an integrator that fires 1, −1 or nothing:

        h = v + x,   s = 1[h ≥ θ] − 1[h ≤ −(θ₋ + ε)],   v = h (1 − |s|).

    The publication has θ₋ = θ; its code leaves θ₋ at ½, whatever θ is.

    Args:
        threshold: θ > 0, or a 1-D tensor with one per channel.
        neg_threshold: θ₋ > 0 for the negative spikes, in the same forms; None for θ.
        margin: ε ≥ 0.
        detach_reset: leave the reset out of the gradient (not so in the publication).
        surrogate, channel_axis: as in `LIF`.
    """

    state_names = ("v",)

    def __init__(
        self,
        threshold: Parameter = 1.0,
        neg_threshold: Parameter | None = None,
        margin: float = 1e-3,
        detach_reset: bool = False,
        surrogate: str | dict[str, Any] | Surrogate = "sigmoid",
        channel_axis: int = 2,
    ) -> None:
        super().__init__(threshold, surrogate, channel_axis, "hard", 0.0, detach_reset)
        below = threshold if neg_threshold is None else neg_threshold
        self.neg_threshold: Parameter
        self.constant("neg_threshold", below, lambda t: t > 0, "a positive number")
        self.margin = check_number("margin", margin, lambda m: m >= 0, "a number >= 0")

    def initial_state(self, like: Tensor) -> State:
        return (self.at_rest(like),)

    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        (v,) = state
        h = v + x_t.to(v.dtype)
        above, below = self.aligned(self.threshold, v), self.aligned(self.neg_threshold, v)
        s = self.surrogate(h - above) - self.surrogate(-(h + below + self.margin))
        gate = s.detach() if self.detach_reset else s
        return s.to(x_t.dtype), (h * (1 - gate.abs()),)

    def extra_repr(self) -> str:
        return f"margin={self.margin:g}, surrogate={self.surrogate.name}"
