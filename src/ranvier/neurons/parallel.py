"""Parallel spiking neurons: no reset, so the membrane is a linear map of the input over time."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ranvier.errors import ShapeError, StateError
from ranvier.neurons.membrane import MembraneNeuron, check_count, check_number
from ranvier.neurons.neuron import Neuron
from ranvier.neurons.registry import NEURONS
from ranvier.ops.step_scan import step_scan
from ranvier.state import State
from ranvier.surrogates import Surrogate

_FUSED_ORDER = 8  # above it the kernel's k states cost more traffic than k passes over the sequence


def leaky_kernel(tau: float, steps: int) -> Tensor:
    """(1/τ)(1 − 1/τ)^i for i = 0..steps − 1: what a LIF membrane without reset keeps of the input i steps ago."""
    tau = check_number("tau", tau, lambda t: t >= 1, "a number >= 1 (in steps)")
    return (1 / tau) * (1 - 1 / tau) ** torch.arange(steps)


def _toeplitz(kernel: Tensor) -> Tensor:
    """Lower-triangular matrix with `kernel[t − s]` at row t and column s."""
    lag = torch.arange(len(kernel))[:, None] - torch.arange(len(kernel))
    return torch.where(lag >= 0, kernel[lag.clamp_min(0)], kernel.new_zeros(()))


def _time_map(weight: Tensor, bias: Tensor, x: Tensor) -> Tensor:
    """`h[t] = Σ_s weight[t, s] x[s] + bias[t]`."""
    return torch.addmm(bias[:, None], weight, x.flatten(1)).view(x.shape)


def _working(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


class _TimeMatrixNeuron(Neuron):
    """A neuron with one learned row of weights for every step of a sequence of fixed length."""

    def __init__(
        self, steps: int, threshold: float, tau: float | None, surrogate: str | dict[str, Any] | Surrogate
    ) -> None:  # fmt: skip
        super().__init__(surrogate)
        self.steps = check_count("steps", steps)
        theta = check_number("threshold", threshold, lambda v: v > 0, "a positive number")
        weight = torch.empty(steps, steps)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.full((steps,), -theta))
        if tau is None:
            nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        else:
            with torch.no_grad():
                self.weight.copy_(_toeplitz(leaky_kernel(tau, steps)))

    def extra_repr(self) -> str:
        return f"steps={self.steps}, surrogate={self.surrogate.name}"


@NEURONS.register("psn")
class PSN(_TimeMatrixNeuron):
    """Parallel spiking neuron (Fang et al., NeurIPS 2023): `h = W x + b` over the time axis, `s = 1[h ≥ 0]`, W in
    R^{T×T} and b in R^T learned, no reset.

    Every output sees every input, later ones too, so it does not stream (`streams = False`; it refuses to run inside
    `ranvier.carry`) and takes sequences of exactly `steps` steps. With `W[t, s] = (1/τ)(1 − 1/τ)^{t−s}` for s ≤ t and
    b = −θ it is a LIF without reset: that is where `tau` starts it.

    Args:
        steps: T, the length of every sequence.
        threshold: θ > 0; b starts at −θ.
        tau: start as the LIF without reset of this time constant; None: Kaiming-uniform, as published.
        surrogate: surrogate gradient of the spike.
    """

    streams = False

    def __init__(
        self,
        steps: int = 4,
        threshold: float = 1.0,
        tau: float | None = None,
        surrogate: str | dict[str, Any] | Surrogate = "atan",
    ) -> None:
        super().__init__(steps, threshold, tau, surrogate)

    def initial_state(self, like: Tensor) -> State:
        return ()

    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        raise StateError("PSN sees all steps at once and has no single step; use MaskedPSN or SlidingPSN to stream")

    def scan(self, x: Tensor, state: State | None, keep_state: bool) -> tuple[Tensor, State | None]:
        if keep_state:
            raise StateError("PSN sees all steps at once and cannot be streamed; use MaskedPSN or SlidingPSN instead")
        if x.shape[0] != self.steps:
            raise ShapeError(
                f"PSN(steps={self.steps}) needs sequences of {self.steps} steps, got {x.shape[0]} (shape "
                f"{tuple(x.shape)}); make it with steps={x.shape[0]}"
            )
        work = _working(x)
        h = _time_map(self.weight.to(work.dtype), self.bias.to(work.dtype), work)
        return self.surrogate(h).to(x.dtype), None


@NEURONS.register("masked_psn")
class MaskedPSN(_TimeMatrixNeuron):
    """Masked PSN (Fang et al., NeurIPS 2023): PSN whose W is cut to the last `order` inputs,
    `h[t] = Σ_{i<k} W[t, t−i] x[t−i] + b[t]`, `s = 1[h ≥ 0]`.

    Causal, so it streams, up to `steps` steps from the start of a sequence; a shorter one is fine. During training
    `masking` (an attribute) may rise from 0 to 1, the progressive masking of the paper: W is multiplied by
    `masking·M + (1 − masking)`. Below 1 the neuron is not causal and refuses to stream.

    Args:
        steps: T, the longest sequence.
        order: k, how many inputs a step sees, 1..T.
        threshold, tau, surrogate: as in `PSN`.
        masking: 0..1.

    State: the last k − 1 inputs, newest first, and the number of steps taken (one a batch row).
    """

    def __init__(
        self,
        steps: int = 4,
        order: int = 2,
        threshold: float = 1.0,
        tau: float | None = None,
        surrogate: str | dict[str, Any] | Surrogate = "atan",
        masking: float = 1.0,
    ) -> None:
        super().__init__(steps, threshold, tau, surrogate)
        self.order = int(
            check_number("order", order, lambda k: 1 <= k <= steps and k == int(k), f"an integer in 1..steps={steps}")
        )
        self.masking = check_number("masking", masking, lambda v: 0 <= v <= 1, "in [0, 1]")
        self.state_names = (*(f"x[-{i}]" for i in range(1, self.order)), "steps")

    def initial_state(self, like: Tensor) -> State:
        work = _working(like)
        return (*(torch.zeros_like(work) for _ in range(self.order - 1)), self._counter(work))

    def _counter(self, like: Tensor) -> Tensor:
        return like.new_zeros(like.shape[0], *[1] * (like.dim() - 1))

    def _rows(self, t: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """The weights (`[..., order]`, by lag) and biases of the steps `t`."""
        lag = torch.arange(self.order, device=t.device)
        column = t[..., None] - lag
        weight = self.weight.to(dtype)[t[..., None], column.clamp_min(0)]
        return torch.where(column >= 0, weight, weight.new_zeros(())), self.bias.to(dtype)[t]

    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        spikes, state_after = self.scan(x_t[None], state, keep_state=True)
        assert state_after is not None
        return spikes[0], state_after

    def scan(self, x: Tensor, state: State | None, keep_state: bool) -> tuple[Tensor, State | None]:
        work = _working(x)
        T = x.shape[0]
        taken = 0 if state is None else int(state[-1].max())
        if taken + T > self.steps:
            raise ShapeError(
                f"MaskedPSN(steps={self.steps}) has weights for {self.steps} steps, this sequence reaches "
                f"{taken + T}; make it with more steps, or use SlidingPSN, which has no end"
            )
        if self.masking < 1:
            return self._blended(work, keep_state).to(x.dtype), None
        if state is None:
            state = self.initial_state(work[0])
        past = state[:-1]
        t = state[-1].long().flatten() + torch.arange(T, device=x.device)[:, None]  # [T, B]
        weight, bias = self._rows(t, work.dtype)
        ones = [1] * (x.dim() - 2)
        longer = torch.cat([*(p[None] for p in reversed(past)), work])
        h = bias.view(*bias.shape, *ones) + weight[..., 0].view(*bias.shape, *ones) * work
        for lag in range(1, self.order):
            start = self.order - 1 - lag
            h = h + weight[..., lag].view(*bias.shape, *ones) * longer[start : start + T]
        spikes = self.surrogate(h).to(x.dtype)
        if not keep_state:
            return spikes, None
        return spikes, (*(longer[-i] for i in range(1, self.order)), state[-1] + T)

    def _blended(self, x: Tensor, keep_state: bool) -> Tensor:
        if keep_state:
            raise StateError(f"MaskedPSN with masking={self.masking} < 1 sees later steps and cannot be streamed")
        T = x.shape[0]
        lag = torch.arange(T, device=x.device)[:, None] - torch.arange(T, device=x.device)
        mask = ((lag >= 0) & (lag < self.order)).to(x.dtype) * self.masking + (1 - self.masking)
        weight = self.weight[:T, :T].to(x.dtype) * mask
        return self.surrogate(_time_map(weight, self.bias[:T].to(x.dtype), x))


@NEURONS.register("sliding_psn")
class SlidingPSN(MembraneNeuron):
    """Sliding PSN (Fang et al., NeurIPS 2023): the same k weights at every step,
    `h[t] = Σ_{i<k} w[i] x[t−i] + b`, `s = 1[h ≥ 0]`; sequences of any length stream.

    Args:
        order: k ≥ 1, how many inputs a step sees.
        threshold: θ > 0; b starts at −θ.
        tau: start as the LIF without reset of this time constant; None: w[i] = 2^{−i}, as published.
        surrogate: surrogate gradient of the spike.

    State: the last k − 1 inputs, newest first.
    """

    def __init__(
        self,
        order: int = 4,
        threshold: float = 1.0,
        tau: float | None = None,
        surrogate: str | dict[str, Any] | Surrogate = "atan",
    ) -> None:
        super().__init__(None, surrogate)
        self.order = check_count("order", order)
        theta = check_number("threshold", threshold, lambda v: v > 0, "a positive number")
        kernel = 0.5 ** torch.arange(order) if tau is None else leaky_kernel(tau, order)
        self.weight = nn.Parameter(kernel.to(torch.get_default_dtype()))
        self.bias = nn.Parameter(torch.tensor(-theta))
        self.state_names = tuple(f"x[-{i}]" for i in range(1, order))

    def initial_state(self, like: Tensor) -> State:
        return tuple(self.at_rest(like) for _ in range(self.order - 1))

    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        x = _working(x_t)
        weight = self.weight.to(x.dtype)
        h = self.bias.to(x.dtype) + weight[0] * x
        for lag in range(1, self.order):
            h = h + weight[lag] * state[lag - 1]
        return self.surrogate(h).to(x_t.dtype), (x, *state)[: self.order - 1]

    def scan(self, x: Tensor, state: State | None, keep_state: bool) -> tuple[Tensor, State | None]:
        """The kernel generated from `step` where there is one, else k shifted sums in the order of `step`."""
        if self.order <= _FUSED_ORDER:
            start = self.initial_state(x[0]) if state is None else state
            fused = step_scan(self, x, start, keep_state)
            if fused is not None:
                return fused
        work = _working(x)
        weight, T = self.weight.to(work.dtype), x.shape[0]
        past = self.initial_state(work[0]) if state is None else state
        longer = torch.cat([*(p[None] for p in reversed(past)), work])
        h = self.bias.to(work.dtype) + weight[0] * work
        for lag in range(1, self.order):
            start = self.order - 1 - lag
            h = h + weight[lag] * longer[start : start + T]
        spikes = self.surrogate(h).to(x.dtype)
        return spikes, tuple(longer[-i] for i in range(1, self.order)) if keep_state else None

    def extra_repr(self) -> str:
        return f"order={self.order}, surrogate={self.surrogate.name}"
