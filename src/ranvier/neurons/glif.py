"""The gated LIF neuron."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError
from ranvier.neurons.leaky import Parameter
from ranvier.neurons.membrane import MembraneNeuron, check_number, logit
from ranvier.neurons.registry import NEURONS
from ranvier.state import State
from ranvier.surrogates import Surrogate


@NEURONS.register("glif")
class GLIF(MembraneNeuron):
    """Gated LIF (Yao et al., NeurIPS 2022): three learned gates mix leaks, input scalings and resets:

        u ← u (1 − α (1 − τ))(1 − γ o) − (1 − α) λ + x (1 − β (1 − g)) − (1 − γ) r o,   o = 1[u ≥ θ],

    with α between linear (0) and exponential leak (1), β between plain and conducted input, γ between soft and hard
    reset; τ kept share, λ linear leak, g conductance, r soft-reset value. Every one of these and θ is σ(a learned
    number), one a layer or, with `channels`, one a channel as in the paper.

    A widespread copy (STEP) starts the gate logits with the wrong sign and then binarises them behind a detach: its
    gates are 0, 0, 0 for ever. Here they are the probabilities you give and they learn. Its conductance is one per time
    step, which ties a net to one T; here one g serves all steps, so that sequences of any length stream.

    Args:
        gates: initial (α, β, γ), each in (0, 1); exact 0 and 1 too with `learn_gates=False`.
        decay: initial τ, in (0, 1).
        threshold: initial θ, in (0, 1).
        leak: initial λ, in (0, 1); the paper starts at θ/(2T), which is the default for T = 4.
        conductance: initial g, in (0, 1).
        reset_value: initial r, in (0, 1).
        learn_gates: False fixes the gates at exactly the values given.
        channels: number of channels for parameters per channel, None for one a layer.
        detach_reset, surrogate, channel_axis: as in `LIF`.
    """

    state_names = ("u", "o")

    def __init__(
        self,
        gates: Sequence[float] = (0.55, 0.65, 0.55),
        decay: float = 0.25,
        threshold: float = 0.5,
        leak: float = 0.0625,
        conductance: float = 0.5,
        reset_value: float = 0.5,
        learn_gates: bool = True,
        detach_reset: bool = True,
        surrogate: str | dict[str, Any] | Surrogate = "rectangle",
        channels: int | None = None,
        channel_axis: int = 2,
    ) -> None:
        super().__init__(None, surrogate, channel_axis, detach_reset=detach_reset)
        if len(gates) != 3:
            raise ArgumentError(f"gates must be three numbers (alpha, beta, gamma), got {gates!r}")
        self.learn_gates = learn_gates
        self.alpha: nn.Parameter | float
        self.beta: nn.Parameter | float
        self.gamma: nn.Parameter | float
        for name, gate in zip(("alpha", "beta", "gamma"), gates, strict=True):
            if learn_gates:
                inside = check_number(
                    f"gate {name}", gate, lambda v: 0 < v < 1,
                    "strictly between 0 and 1 to be learned (learn_gates=False fixes it at 0 or 1)",
                )  # fmt: skip
                setattr(self, name, self.learned(logit(inside), channels))
            else:
                setattr(self, name, check_number(f"gate {name}", gate, lambda v: 0 <= v <= 1, "in [0, 1]"))

        def bounded(name: str, value: float) -> nn.Parameter:
            inside = check_number(name, value, lambda v: 0 < v < 1, "strictly between 0 and 1")
            return self.learned(logit(inside), channels)

        self.decay_logit = bounded("decay", decay)
        self.threshold_logit = bounded("threshold", threshold)
        self.leak_logit = bounded("leak", leak)
        self.conductance_logit = bounded("conductance", conductance)
        self.reset_value_logit = bounded("reset_value", reset_value)

    @property
    def threshold(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        """θ as it is now: one a layer (0-D) or one a channel."""
        return torch.sigmoid(self.threshold_logit)

    def initial_state(self, like: Tensor) -> State:
        return self.at_rest(like), self.at_rest(like)

    def _bounded(self, parameter: Parameter, like: Tensor) -> Any:
        return torch.sigmoid(self.aligned(parameter, like)) if isinstance(parameter, Tensor) else parameter

    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        u, o = state
        alpha, beta, gamma = (self._bounded(g, u) for g in (self.alpha, self.beta, self.gamma))
        decay, threshold, leak, conductance, reset_value = (
            self._bounded(p, u)
            for p in (
                self.decay_logit, self.threshold_logit, self.leak_logit, self.conductance_logit,
                self.reset_value_logit,
            )
        )  # fmt: skip
        gate = o.detach() if self.detach_reset else o
        u = (
            u * (1 - alpha * (1 - decay)) * (1 - gamma * gate)
            - (1 - alpha) * leak
            + x_t.to(u.dtype) * (1 - beta * (1 - conductance))
            - (1 - gamma) * reset_value * gate
        )
        o = self.surrogate(u - threshold)
        return o.to(x_t.dtype), (u, o)
