"""The definition of the leaky integrate-fire-reset recurrence, in plain torch.

For every step t (`k` decay, `θ` threshold, `r` reset value):

    charge   h = v + k (x − (v − r))       `decay_input=True`
             h = v − k (v − r) + x         `decay_input=False`; k = 0 is the IF neuron, k = 1 has no memory
    fire     s = 1[h ≥ θ]                  binary (`levels=0`)
             n = round(clamp(h·a/θ, 0, D)), s = n·b
                                           integer (`levels=D`, a = `input_scale`, b = `output_scale`)
    reset    v = h (1 − s) + r s           hard; an integer neuron resets where n > 0
             v = h − θ s                   soft; an integer neuron subtracts n·θ/a

The gradient of the firing step is the surrogate's (binary) or one inside 0 < h·a/θ < D (integer, straight-through).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ranvier.autograd import signed
from ranvier.surrogates import Sigmoid, Surrogate

DEFAULT_SURROGATE = Sigmoid()


@dataclass(frozen=True)
class LeakyDynamics:
    """Everything about the recurrence that is not a tensor."""

    decay_input: bool = True
    soft_reset: bool = False
    v_reset: float = 0.0
    detach_reset: bool = True
    surrogate: Surrogate = DEFAULT_SURROGATE
    levels: int = 0
    input_scale: float = 1.0
    output_scale: float = 1.0
    half_even: bool = False


@signed
class _RoundInside(torch.autograd.Function):
    """Rounds a clamped value; straight-through gradient on the open interval (0, levels)."""

    generate_vmap_rule = True

    @staticmethod
    def forward(u: Tensor, levels: int, half_even: bool) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        u = u.clamp(0, levels)
        return u.round() if half_even else (u + 0.5).floor()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0])
        ctx.levels = inputs[1]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (u,) = ctx.saved_tensors
        return grad * ((u > 0) & (u < ctx.levels)).to(grad.dtype), None, None


def leaky_step(x: Tensor, v: Tensor, decay: Tensor, threshold: Tensor, d: LeakyDynamics) -> tuple[Tensor, Tensor]:
    """One step: input and membrane of one shape in, `(spikes, membrane)` out. Parameters broadcast."""
    h = v + decay * (x - (v - d.v_reset)) if d.decay_input else v - decay * (v - d.v_reset) + x
    if d.levels == 0:
        s = d.surrogate(h - threshold)
        gate = s.detach() if d.detach_reset else s
        return s, h - gate * threshold if d.soft_reset else h * (1 - gate) + d.v_reset * gate
    n = _RoundInside.apply(h * (d.input_scale / threshold), d.levels, d.half_even)
    assert isinstance(n, Tensor)
    emitted = n.detach() if d.detach_reset else n
    if d.soft_reset:
        return n * d.output_scale, h - emitted * (threshold / d.input_scale)
    gate = emitted.clamp(max=1)
    return n * d.output_scale, h * (1 - gate) + d.v_reset * gate


def leaky_scan_reference(
    x: Tensor, v: Tensor, decay: Tensor, threshold: Tensor, d: LeakyDynamics
) -> tuple[Tensor, Tensor]:
    """The loop over `leaky_step`: `x` is `[T, ...]`, `v` broadcasts to one step; returns spikes and final membrane.

    Half-precision input is computed in float32, and the spikes come back in the dtype of `x`.
    """
    work = torch.float32 if x.dtype in (torch.float16, torch.bfloat16) else x.dtype
    v = v.to(work).expand(x.shape[1:])
    spikes: list[Tensor] = []
    for x_t in x.to(work).unbind(0):  # indexing x[t] would make backward quadratic in T
        s, v = leaky_step(x_t, v, decay, threshold, d)
        spikes.append(s)
    return torch.stack(spikes).to(x.dtype), v
