"""The kernels of all synapses as one op: `[K, O, I]`, taps outermost, which is what the convolutions here read."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ranvier.ops.backend import use_kernels
from ranvier.ops.delay.reference import Interpolation, bump_kernel_reference, half_width
from ranvier.ops.delay.scratch import empty

_FUSED = ("gauss", "max", "triangle")


def bump_taps(
    weight: Tensor, delay: Tensor, sigma: Tensor, max_delay: int, interpolation: Interpolation,
    offset: float | None = None,
) -> Tensor:  # fmt: skip
    """`bump_kernel_reference` with the taps outermost, `[K, O, I]`, through a fused kernel where there is one.

    Half precision is computed in float32. The fused kernel takes one σ for all synapses, and gives it no gradient.
    """
    if weight.dtype in (torch.float16, torch.bfloat16) or delay.dtype in (torch.float16, torch.bfloat16):
        return bump_taps(weight.float(), delay.float(), sigma.float(), max_delay, interpolation, offset)
    weight, delay = torch.broadcast_tensors(weight, delay.to(weight.dtype))
    fused = (
        interpolation in _FUSED
        and sigma.numel() == 1
        and not sigma.requires_grad
        and weight.device.type == "cpu"
        and use_kernels("cpu")
    )
    if not fused:
        kernel = bump_kernel_reference(weight, delay, sigma, max_delay, interpolation, offset)
        return kernel.permute(2, 0, 1).contiguous()
    s = half_width(sigma, interpolation, offset).reshape(())
    return torch.ops.ranvier.delay_bumps(weight, delay, s, max_delay + 1, interpolation == "gauss")


torch.library.define("ranvier::delay_bumps", "(Tensor weight, Tensor delay, Tensor s, int taps, bool gauss) -> Tensor")
torch.library.define(
    "ranvier::delay_bumps_backward",
    "(Tensor weight, Tensor delay, Tensor s, Tensor grad, bool gauss) -> (Tensor, Tensor)",
)


def _synapses(t: Tensor) -> Tensor:
    return t.detach().reshape(-1, t.shape[-1]).contiguous()


@torch.library.impl("ranvier::delay_bumps", "cpu")
def delay_bumps_impl(weight: Tensor, delay: Tensor, s: Tensor, taps: int, gauss: bool) -> Tensor:
    from ranvier.ops.delay import numba_bump

    kernel = empty((taps, *weight.shape[:2]), weight.dtype)
    numba_bump.build(_synapses(weight), _synapses(delay), float(s), gauss, kernel.view(taps, -1))
    return kernel


@torch.library.impl("ranvier::delay_bumps_backward", "cpu")
def delay_bumps_backward_impl(
    weight: Tensor, delay: Tensor, s: Tensor, grad: Tensor, gauss: bool
) -> tuple[Tensor, Tensor]:
    from ranvier.ops.delay import numba_bump

    w, d = _synapses(weight), _synapses(delay)
    grad_weight, grad_delay = torch.empty_like(w), torch.empty_like(w)
    taps = grad.shape[0]
    numba_bump.build_backward(w, d, float(s), gauss, grad.contiguous().view(taps, -1), grad_weight, grad_delay)
    return grad_weight.view(weight.shape), grad_delay.view(weight.shape)


@torch.library.register_fake("ranvier::delay_bumps")
def _(weight: Tensor, delay: Tensor, s: Tensor, taps: int, gauss: bool) -> Tensor:
    return weight.new_empty((taps, *weight.shape[:2]))


@torch.library.register_fake("ranvier::delay_bumps_backward")
def _(weight: Tensor, delay: Tensor, s: Tensor, grad: Tensor, gauss: bool) -> tuple[Tensor, Tensor]:
    shape = weight.shape
    return weight.new_empty(shape), weight.new_empty(shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:3])
    ctx.gauss = inputs[4]


def _autograd(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    weight, delay, s = ctx.saved_tensors
    grad_weight, grad_delay = torch.ops.ranvier.delay_bumps_backward(weight, delay, s, grad, ctx.gauss)
    return grad_weight, grad_delay if ctx.needs_input_grad[1] else None, None, None, None


torch.library.register_autograd("ranvier::delay_bumps", _autograd, setup_context=_setup_context)
