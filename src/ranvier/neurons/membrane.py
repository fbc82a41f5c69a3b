"""What the neurons with a membrane share: a threshold, a reset, and parameters per layer or per channel."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError, ShapeError
from ranvier.neurons.leaky import Parameter, Reset, _parameter
from ranvier.neurons.neuron import Neuron
from ranvier.surrogates import Surrogate


def check_number(name: str, value: float, valid: Callable[[float], bool], expected: str) -> float:
    """`value` as a float, or an `ArgumentError` that says what was expected."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not valid(value):
        raise ArgumentError(f"{name} must be {expected}, got {value!r}")
    return float(value)


def check_count(name: str, value: int, least: int = 1) -> int:
    """`value` if it is an integer of at least `least`, else an `ArgumentError`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ArgumentError(f"{name} must be an integer >= {least}, got {value!r}")
    return value


def logit(p: float) -> float:
    """The inverse of the logistic function, for p strictly between 0 and 1."""
    return math.log(p) - math.log1p(-p)


class MembraneNeuron(Neuron):
    """Base of the neurons outside the leaky family.

    Constants given as numbers stay numbers; given as 1-D tensors they are one value per channel, on `channel_axis` of
    the sequence `[T, B, ...]` (2 by default, -1 for `[T, B, N, C]`). Learned parameters are 0-D, or 1-D where
    `channels` is given.

    Args:
        threshold: θ > 0, or a 1-D tensor with one per channel; None for a neuron that has its own.
        surrogate: surrogate gradient of the spike.
        channel_axis: axis of the channels when a parameter is per channel.
        reset: "hard" (v ← v_reset) or "soft" (v ← v − θ).
        v_reset: membrane after a hard reset.
        detach_reset: leave the reset out of the gradient.
    """

    def __init__(
        self,
        threshold: Parameter | None,
        surrogate: str | dict[str, Any] | Surrogate,
        channel_axis: int = 2,
        reset: Reset = "hard",
        v_reset: float = 0.0,
        detach_reset: bool = True,
    ) -> None:
        super().__init__(surrogate)
        if reset not in ("hard", "soft"):
            raise ArgumentError(f"reset must be 'hard' or 'soft', got {reset!r}")
        if channel_axis in (0, 1):
            raise ArgumentError("channel_axis must not be 0 (time) or 1 (batch) of the sequence [T, B, ...]")
        self.reset = reset
        self.v_reset = check_number("v_reset", v_reset, lambda _: True, "a finite number")
        self.detach_reset = detach_reset
        self.channel_axis = channel_axis
        if threshold is not None:
            theta = _parameter("threshold", threshold, lambda t: t > 0, "a positive number")
            self.threshold: Tensor
            self.register_buffer("threshold", theta, persistent=theta.dim() > 0)

    def constant(
        self, name: str, value: Parameter, valid: Callable[[Any], Any], expected: str
    ) -> None:  # fmt: skip
        """Keep `value` as the attribute `name`: a number as it is, a tensor as a buffer."""
        checked = _parameter(name, value, valid, expected)
        if isinstance(value, Tensor):
            self.register_buffer(name, checked)
        else:
            setattr(self, name, float(value))

    def learned(self, value: float, channels: int | None) -> nn.Parameter:
        """A parameter that starts at `value`: one a layer, or one a channel."""
        shape = () if channels is None else (check_count("channels", channels),)
        return nn.Parameter(torch.full(shape, value))

    def at_rest(self, like: Tensor, value: float = 0.0) -> Tensor:
        """A state tensor of the shape of one step `like`; float32 for half-precision input."""
        work = torch.float32 if like.dtype in (torch.float16, torch.bfloat16) else like.dtype
        return torch.full_like(like, value, dtype=work)

    def aligned(self, parameter: Parameter, like: Tensor) -> Any:
        """`parameter` as something that broadcasts against one step `like` (`[B, ...]`), in its dtype."""
        if not isinstance(parameter, Tensor):
            return parameter
        if parameter.dim() == 0:
            return parameter.to(like.dtype)
        axis = self.channel_axis - 1 if self.channel_axis >= 0 else like.dim() + self.channel_axis
        if not 0 < axis < like.dim() or like.shape[axis] != parameter.shape[0]:
            raise ShapeError(
                f"{type(self).__name__} has {parameter.shape[0]} channels on axis {self.channel_axis} of [T, B, ...], "
                f"but one step of the input has shape {tuple(like.shape)}"
            )
        return parameter.to(like.dtype).reshape(-1, *[1] * (like.dim() - 1 - axis))

    def after_spike(self, h: Tensor, s: Tensor, threshold: Tensor) -> Tensor:
        """The membrane after the reset: `h` charged, `s` spikes, `threshold` what a soft reset takes away."""
        gate = s.detach() if self.detach_reset else s
        return h - gate * threshold if self.reset == "soft" else h * (1 - gate) + self.v_reset * gate
