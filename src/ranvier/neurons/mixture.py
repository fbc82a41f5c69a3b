"""The mixture of neuron experts of the spiking point transformer."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError, ShapeError, StateError
from ranvier.neurons.exponential import EIF
from ranvier.neurons.leaky import IF, LIF, PLIF, _parameter
from ranvier.neurons.membrane import check_count
from ranvier.neurons.neuron import Neuron
from ranvier.neurons.registry import NEURONS
from ranvier.state import State
from ranvier.surrogates import Sigmoid, Surrogate


@NEURONS.register("hd_lif")
class HDLIF(Neuron):
    """HD-IF of the Spiking Point Transformer (Wu et al., AAAI 2025), HD-LIF in STEP: IF, LIF, PLIF and EIF run side by
    side on x and reset themselves; a gate mixes their membranes:

        g = softmax_e(W_e · [x₁ … x_T] + b_e) at every position,   U_e = membrane, or θ_e where expert e spiked,
        h_t = Σ_e g_e U_e[t],   s = 1[h ≥ θ].

    In eval mode only the `top_k` largest gates stay, renormalised. The gate sees all T steps, so the neuron does not
    stream (`streams = False`; it refuses to run inside `ranvier.carry`).

    Released code puts θ_e where the membrane is *exactly zero*, meaning "it spiked"; but a resting membrane is zero
    too, so without any input the neuron fires at every step, and EIF, which resets to −0.1, is never marked. Here it is
    the spike that counts. The EIF expert has a resting point (see `EIF`).

    Args:
        channels: C of the sequence `[T, B, C, ...]`.
        steps: T.
        threshold: θ > 0 of the mixture.
        expert_threshold: θ_e of the four experts.
        top_k: gates that stay in eval mode, 1..4.
        tau, detach_reset: of the experts.
        surrogate: surrogate gradient of the mixture's spike.
        channel_axis: axis of the channels in `[T, B, ...]`.
    """

    streams = False
    experts: nn.ModuleList

    def __init__(
        self,
        channels: int | None = None,
        steps: int = 4,
        threshold: float = 0.2,
        expert_threshold: float = 0.5,
        top_k: int = 2,
        tau: float = 2.0,
        detach_reset: bool = True,
        surrogate: str | dict[str, Any] | Surrogate = Sigmoid(alpha=4.0),  # noqa: B008 an immutable value
        channel_axis: int = 2,
    ) -> None:
        super().__init__(surrogate)
        if channels is None:
            raise ArgumentError("HDLIF needs channels, the number that its gate sees (per_channel: true in a spec)")
        if channel_axis in (0, 1):
            raise ArgumentError("channel_axis must not be 0 (time) or 1 (batch) of the sequence [T, B, ...]")
        self.channels = check_count("channels", channels)
        self.steps = check_count("steps", steps)
        self.top_k = check_count("top_k", top_k)
        self.channel_axis = channel_axis
        self.threshold: Tensor
        theta = _parameter("threshold", threshold, lambda t: t > 0, "a positive number")
        self.register_buffer("threshold", theta, persistent=False)
        shared: dict[str, Any] = {"threshold": expert_threshold, "detach_reset": detach_reset}
        self.experts = nn.ModuleList(
            [IF(**shared), LIF(tau=tau, **shared), PLIF(tau=tau, **shared), EIF(tau=tau, **shared)]
        )
        if self.top_k > len(self.experts):
            raise ArgumentError(f"top_k must be an integer in 1..{len(self.experts)}, got {top_k!r}")
        bound = 1 / math.sqrt(steps * channels)  # that of a convolution with steps · channels inputs
        self.weight = nn.Parameter(torch.empty(len(self.experts), steps, channels).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(len(self.experts)).uniform_(-bound, bound))

    def gates(self, x: Tensor) -> Tensor:
        """The shares of the experts, `[4, B, ...]` with one channel, for the whole sequence `x`."""
        axis = self.channel_axis if self.channel_axis >= 0 else x.dim() + self.channel_axis
        if x.shape[0] != self.steps or axis >= x.dim() or x.shape[axis] != self.channels:
            raise ShapeError(
                f"HDLIF needs {self.steps} steps and {self.channels} channels on axis {self.channel_axis} of "
                f"[T, B, C, ...], got shape {tuple(x.shape)}"
            )
        together = x.movedim(axis, 1)  # [T, C, B, ...]
        logits = torch.tensordot(self.weight.to(x.dtype), together, 2)
        logits = logits + self.bias.to(x.dtype).view(-1, *[1] * (logits.dim() - 1))
        if not self.training and self.top_k < len(self.experts):
            kept = logits.topk(self.top_k, dim=0).indices
            logits = torch.full_like(logits, -math.inf).scatter(0, kept, logits.gather(0, kept))
        return logits.softmax(0).unsqueeze(axis)  # [4, B, ..., 1, ...]: `axis` of [4, B, ...] is that of [T, B, ...]

    def initial_state(self, like: Tensor) -> State:
        return ()

    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        raise StateError("HDLIF's gate sees all steps at once, so there is no single step")

    def scan(self, x: Tensor, state: State | None, keep_state: bool) -> tuple[Tensor, State | None]:
        if keep_state:
            raise StateError("HDLIF's gate sees all steps at once, so it cannot be streamed")
        work = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        mixed = 0
        for gate, expert in zip(self.gates(work), self.experts, strict=True):
            assert isinstance(expert, IF | LIF | PLIF | EIF)
            mixed = mixed + gate * _fired_or_membrane(expert, work)
        return self.surrogate(mixed - self.threshold.to(work.dtype)).to(x.dtype), None


def _fired_or_membrane(expert: IF | LIF | PLIF | EIF, x: Tensor) -> Tensor:
    """The membrane of `expert` after every step of `x`, or its threshold where it spiked."""
    state = expert.initial_state(x[0])
    theta: Tensor = expert.threshold  # pyright: ignore[reportAssignmentType]
    threshold = theta.to(x.dtype)
    trace: list[Tensor] = []
    for x_t in x.unbind(0):
        s, state = expert.step(x_t, state)
        trace.append(torch.where(s > 0, threshold, state[0]))
    return torch.stack(trace)
