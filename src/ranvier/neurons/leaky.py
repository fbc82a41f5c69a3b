"""The leaky integrate-and-fire family: IF, LIF, PLIF and the integer LIF, all through one fused scan."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError, ShapeError
from ranvier.neurons.neuron import Neuron
from ranvier.neurons.registry import NEURONS
from ranvier.ops.leaky_scan import LeakyDynamics, leaky_scan, leaky_scan_packed, leaky_step
from ranvier.ops.leaky_scan.chunks import CHUNK
from ranvier.packing import Packing
from ranvier.state import State
from ranvier.surrogates import Surrogate

Reset = Literal["hard", "soft"]
Parameter = float | Tensor


def _parameter(name: str, value: Parameter, valid: Callable[[Any], Any], expected: str) -> Tensor:
    """`value` as a 0-D or 1-D tensor on the default device, checked on the CPU (so that meta devices work)."""
    return _placed(_checked(name, value, valid, expected))


def _checked(name: str, value: Parameter, valid: Callable[[Any], Any], expected: str) -> Tensor:
    """A new tensor where `value` is, of the default dtype (a number: on the CPU). `valid` takes numbers and tensors."""
    dtype = torch.get_default_dtype()
    if isinstance(value, int | float):
        given = torch.tensor(value, dtype=dtype, device="cpu")
        rounded = given.item()
        fits = valid(rounded) and math.isfinite(rounded)
    else:
        given = torch.as_tensor(value, dtype=dtype, device=None if isinstance(value, Tensor) else "cpu")
        given = given.detach().clone()
        fits = given.dim() <= 1 and given.numel() > 0 and bool((valid(given) & given.isfinite()).all())
    if not fits:
        raise ArgumentError(f"{name} must be {expected} or a 1-D tensor of them, got {given.tolist()!r}")
    return given


def _placed(made: Tensor) -> Tensor:
    """`made` on the default device."""
    return made.to(torch.empty(0).device)  # PyTorch 2.6's get_default_device knows no `with torch.device`


def _decay_of(tau: Parameter) -> Tensor:
    return _placed(1 / _checked("tau", tau, lambda t: t >= 1, "a number >= 1 (in steps)"))


class LeakyNeuron(Neuron):
    """What the family shares: a membrane `v`, a threshold, a reset, parameters per layer or per channel.

    A parameter given as a 1-D tensor is per channel; `channel_axis` is the axis of the channels in the sequence
    `[T, B, C, ...]` (2 by default, -1 for `[T, B, N, C]`).
    """

    state_names = ("v",)

    def __init__(
        self,
        threshold: Parameter,
        v_reset: float,
        reset: Reset,
        detach_reset: bool,
        surrogate: str | dict[str, Any] | Surrogate,
        channel_axis: int,
        **dynamics: Any,
    ) -> None:
        super().__init__(surrogate)
        if reset not in ("hard", "soft"):
            raise ArgumentError(f"reset must be 'hard' or 'soft', got {reset!r}")
        if not math.isfinite(v_reset):
            raise ArgumentError(f"v_reset must be finite, got {v_reset!r}")
        if channel_axis in (0, 1):
            raise ArgumentError("channel_axis must not be 0 (time) or 1 (batch) of the sequence [T, B, ...]")
        theta = _parameter("threshold", threshold, lambda t: t > 0, "a positive number")
        self.channel_axis = channel_axis
        self.reset = reset
        self.threshold: Tensor
        self.register_buffer("threshold", theta, persistent=theta.dim() > 0)
        self.dynamics = LeakyDynamics(
            soft_reset=reset == "soft",
            v_reset=float(v_reset),
            detach_reset=detach_reset,
            surrogate=self.surrogate,
            **dynamics,
        )

    def decay(self) -> Tensor:
        """The share of the membrane that is lost in a step: 1/τ, per layer (0-dim) or per channel (1-D)."""
        raise ArgumentError(f"{type(self).__name__} does not define decay")

    def initial_state(self, like: Tensor) -> State:
        work = torch.float32 if like.dtype in (torch.float16, torch.bfloat16) else like.dtype
        return (torch.full_like(like, self.dynamics.v_reset, dtype=work),)

    def _aligned(self, parameter: Tensor, dims: int, dtype: torch.dtype, channels: tuple[int, ...]) -> Tensor:
        """A per-channel parameter shaped to broadcast against one step `[B, ...]` of a `dims`-dimensional sequence."""
        parameter = parameter.to(dtype)
        if parameter.dim() == 0:
            return parameter
        axis = self.channel_axis if self.channel_axis >= 0 else dims + self.channel_axis
        if axis >= dims or channels[axis - 1] != parameter.shape[0]:
            raise ShapeError(
                f"{type(self).__name__} has {parameter.shape[0]} channels on axis {self.channel_axis} of [T, B, ...], "
                f"but one step of the input has shape {channels}"
            )
        return parameter.reshape(-1, *[1] * (dims - 1 - axis))

    def _step_parameters(self, step_shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        work = torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype
        dims = len(step_shape) + 1
        return (
            self._aligned(self.decay(), dims, work, step_shape),
            self._aligned(self.threshold, dims, work, step_shape),
        )

    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        decay, threshold = self._step_parameters(tuple(x_t.shape), x_t.dtype)
        s, v = leaky_step(x_t.to(state[0].dtype), state[0], decay, threshold, self.dynamics)
        return s.to(x_t.dtype), (v,)

    def scan(self, x: Tensor, state: State | None, keep_state: bool) -> tuple[Tensor, State | None]:
        decay, threshold = self._step_parameters(tuple(x.shape[1:]), x.dtype)
        v = threshold.new_full((), self.dynamics.v_reset) if state is None else state[0]
        spikes, v_last = leaky_scan(x, v, decay, threshold, self.dynamics, keep_state)
        return spikes, None if v_last is None else (v_last,)

    def scan_packed(
        self, x: Tensor, packing: Packing, state: State | None, keep_state: bool
    ) -> tuple[Tensor, State | None]:
        found = self.fused_packed(x, packing, state, keep_state)
        if found is not None:
            return found
        return self.scan_spans(
            x, packing, self.initial_state(x[: packing.batch]) if state is None else state, keep_state
        )  # fmt: skip

    def fused_packed(
        self, x: Tensor, packing: Packing, state: State | None, keep_state: bool
    ) -> tuple[Tensor, State | None] | None:
        """`scan_packed` in one kernel; None where there is none."""
        decay, threshold = self._step_parameters((packing.batch, *x.shape[1:]), x.dtype)
        v = threshold.new_full((), self.dynamics.v_reset) if state is None else state[0]
        found = leaky_scan_packed(
            x, v, decay, threshold, self.dynamics, packing.counts, packing.batch, packing.running_at_every(CHUNK),
            keep_state,
        )  # fmt: skip
        if found is None:
            return None
        spikes, v_last = found
        return spikes, None if v_last is None else (v_last,)

    def extra_repr(self) -> str:
        size = "" if self.threshold.dim() == 0 else f"[{self.threshold.shape[0]}]"
        shown = f"{self.threshold.item():g}" if self.threshold.dim() == 0 else "per channel"
        return f"threshold{size}={shown}, reset={self.reset}, surrogate={self.surrogate.name}"


@NEURONS.register("if")
class IF(LeakyNeuron):
    """Integrate-and-fire: `v ← v + x`, spike where `v ≥ θ`, then reset (spec of SpikingJelly's and BrainCog's IF).

    Args:
        threshold: θ > 0, or a 1-D tensor with one per channel.
        v_reset: membrane after a hard reset, and before the first step.
        reset: "hard" (v ← v_reset) or "soft" (v ← v − θ).
        detach_reset: leave the reset out of the gradient.
        surrogate: surrogate gradient of the spike.
        channel_axis: axis of the channels in `[T, B, ...]` when a parameter is per channel.
    """

    def __init__(
        self,
        threshold: Parameter = 1.0,
        v_reset: float = 0.0,
        reset: Reset = "hard",
        detach_reset: bool = True,
        surrogate: str | dict[str, Any] | Surrogate = "sigmoid",
        channel_axis: int = 2,
    ) -> None:
        super().__init__(threshold, v_reset, reset, detach_reset, surrogate, channel_axis, decay_input=False)
        self._no_decay: Tensor
        self.register_buffer("_no_decay", torch.zeros(()), persistent=False)

    def decay(self) -> Tensor:
        return self._no_decay


@NEURONS.register("lif")
class LIF(LeakyNeuron):
    """Leaky integrate-and-fire: `v ← v + (x − (v − v_reset))/τ`, spike where `v ≥ θ`, then reset.

    With `decay_input=False` the input is not scaled: `v ← v − (v − v_reset)/τ + x`.

    Args:
        tau: membrane time constant τ ≥ 1 in steps, or a 1-D tensor with one per channel.
        threshold, v_reset, reset, detach_reset, surrogate, channel_axis: as in `IF`.
        decay_input: whether the input is divided by τ too.
    """

    def __init__(
        self,
        tau: Parameter = 2.0,
        threshold: Parameter = 1.0,
        v_reset: float = 0.0,
        reset: Reset = "hard",
        detach_reset: bool = True,
        decay_input: bool = True,
        surrogate: str | dict[str, Any] | Surrogate = "sigmoid",
        channel_axis: int = 2,
    ) -> None:
        super().__init__(threshold, v_reset, reset, detach_reset, surrogate, channel_axis, decay_input=decay_input)
        k = _decay_of(tau)
        self._k: Tensor
        self.register_buffer("_k", k, persistent=k.dim() > 0)

    def decay(self) -> Tensor:
        return self._k

    def extra_repr(self) -> str:
        tau = f"{1 / self._k.item():g}" if self._k.dim() == 0 else "per channel"
        return f"tau={tau}, {super().extra_repr()}"


@NEURONS.register("plif")
class PLIF(LeakyNeuron):
    """Parametric LIF (Fang et al., ICCV 2021, eq. 10): the decay 1/τ = σ(w) is learned.

    `w` starts at −ln(τ − 1). One `w` a layer, or one a channel when `channels` is given.

    Args:
        tau: initial time constant, > 1 (in steps).
        channels: number of channels for a per-channel decay, None for one a layer.
        threshold, v_reset, reset, detach_reset, decay_input, surrogate, channel_axis: as in `LIF`.
    """

    def __init__(
        self,
        tau: float = 2.0,
        threshold: Parameter = 1.0,
        v_reset: float = 0.0,
        reset: Reset = "hard",
        detach_reset: bool = True,
        decay_input: bool = True,
        surrogate: str | dict[str, Any] | Surrogate = "sigmoid",
        channels: int | None = None,
        channel_axis: int = 2,
    ) -> None:
        super().__init__(threshold, v_reset, reset, detach_reset, surrogate, channel_axis, decay_input=decay_input)
        if not tau > 1 or not math.isfinite(tau):
            raise ArgumentError(f"tau must be a number > 1 for a learned decay, got {tau!r}")
        if channels is not None and channels < 1:
            raise ArgumentError(f"channels must be a positive count or None, got {channels!r}")
        self.w = nn.Parameter(torch.full(() if channels is None else (channels,), -math.log(tau - 1)))

    def decay(self) -> Tensor:
        return torch.sigmoid(self.w)


@NEURONS.register("integer_lif")
class IntegerLIF(LeakyNeuron):
    """A neuron that emits counts 0..D in one step instead of D binary steps (IE-LIF, I-LIF).

    Charge: `h = x` without `decay` or `tau` (memoryless, the released IE-LIF of QSD-Transformer), `h = λ v + x` with
    `decay=λ` (SpikeYOLO's I-LIF), or `h = v + (x − v)/τ` with `tau` (STEP's). Then
    `n = round(clamp(a·h/θ, 0, D))`, output `b·n`, and the membrane loses `n·θ/a` (soft) or is reset where n > 0
    (hard). The gradient is `a·b/θ` inside 0 < a·h/θ < D and zero outside.

    The published conventions differ only in the arguments: IE-LIF `input_scale=D, output_scale=1/D`; its attention
    neuron `output_scale=2/D`; Spike-driven V3 `input_scale=1, output_scale=1/D, rounding="half_even"`; SpikeYOLO
    `input_scale=1, output_scale=1`.

    Args:
        levels: D ≥ 1, the largest count.
        threshold: θ > 0, or a 1-D tensor with one per channel.
        decay: λ in [0, 1), the share of the membrane that is kept; excludes `tau`.
        tau: time constant ≥ 1 of a LIF charge; excludes `decay`.
        input_scale, output_scale: a and b; None means D and 1/D.
        rounding: "half_up" (floor(u + ½)) or "half_even" (torch.round).
        reset, v_reset, detach_reset, channel_axis: as in `IF`; soft by default.
    """

    def __init__(
        self,
        levels: int = 4,
        threshold: Parameter = 1.0,
        decay: float | None = None,
        tau: float | None = None,
        input_scale: float | None = None,
        output_scale: float | None = None,
        rounding: Literal["half_up", "half_even"] = "half_up",
        v_reset: float = 0.0,
        reset: Reset = "soft",
        detach_reset: bool = True,
        channel_axis: int = 2,
    ) -> None:
        if not isinstance(levels, int) or levels < 1:
            raise ArgumentError(f"levels must be an integer >= 1, got {levels!r}")
        if decay is not None and tau is not None:
            raise ArgumentError("give decay (h = λ v + x) or tau (h = v + (x − v)/τ), not both")
        if decay is not None and not 0 <= decay < 1:
            raise ArgumentError(f"decay must be in [0, 1), got {decay!r}")
        if rounding not in ("half_up", "half_even"):
            raise ArgumentError(f"rounding must be 'half_up' or 'half_even', got {rounding!r}")
        scales = (
            float(levels) if input_scale is None else input_scale,
            1 / levels if output_scale is None else output_scale,
        )
        for name, scale in zip(("input_scale", "output_scale"), scales, strict=True):
            if not scale > 0 or not math.isfinite(scale):
                raise ArgumentError(f"{name} must be a positive number, got {scale!r}")
        super().__init__(
            threshold, v_reset, reset, detach_reset, "straight_through", channel_axis,
            decay_input=tau is not None, levels=levels, input_scale=scales[0], output_scale=scales[1],
            half_even=rounding == "half_even",
        )  # fmt: skip
        self.levels = levels
        k = _decay_of(tau) if tau is not None else torch.tensor(1.0 - (decay or 0.0))
        self._k: Tensor
        self.register_buffer("_k", k, persistent=False)

    @property
    def output_scale(self) -> float:
        """The value of one spike in the output."""
        return self.dynamics.output_scale

    def decay(self) -> Tensor:
        return self._k

    def extra_repr(self) -> str:
        d = self.dynamics
        scales = f"input_scale={d.input_scale:g}, output_scale={d.output_scale:g}"
        return f"levels={self.levels}, {scales}, {super().extra_repr()}"
