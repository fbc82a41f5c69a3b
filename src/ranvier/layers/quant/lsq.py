"""Learned step size quantisation of weights."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ranvier.autograd import signed
from ranvier.errors import ArgumentError, ShapeError
from ranvier.layers.attention import without_autocast

_SMALLEST_STEP = 1e-12


def level_range(bits: int, signed: bool = True) -> tuple[int, int]:
    """The smallest and the largest integer of `bits` bits: (−8, 7) for 4 signed ones; (−1, 1) for 1, without 0."""
    if not isinstance(bits, int) or isinstance(bits, bool) or not 1 <= bits <= 8:
        raise ArgumentError(f"bits must be an integer from 1 to 8, got {bits!r}")
    if signed:
        return (-1, 1) if bits == 1 else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return 0, 2**bits - 1


@signed
class _Quantize(torch.autograd.Function):
    """`round(clamp(w/α, lo, hi)) α` with a straight-through gradient for w and the closed form for α."""

    generate_vmap_rule = True

    @staticmethod
    def forward(w: Tensor, step: Tensor, low: int, high: int, scale: float) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return (w / step).clamp(low, high).round() * step

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        w, step, ctx.low, ctx.high, ctx.scale = inputs
        ctx.save_for_backward(w, step)

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        w, step = ctx.saved_tensors
        ratio = w / step
        clamped = ratio.clamp(ctx.low, ctx.high)
        inside = clamped == ratio
        of_weight = grad * inside if ctx.needs_input_grad[0] else None
        of_step = None
        if ctx.needs_input_grad[1]:
            each = clamped.round() - torch.where(inside, ratio, torch.zeros_like(ratio))
            of_step = (grad * each).sum_to_size(step.shape) * ctx.scale
        return of_weight, of_step, None, None, None


@signed
class _Sign(torch.autograd.Function):
    """`±mean|w|` a channel, by the sign of w; the gradient passes straight through."""

    generate_vmap_rule = True

    @staticmethod
    def forward(w: Tensor, step: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return torch.where(w >= 0, step, -step)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return grad, None


class LSQ(nn.Module):
    """Learned step size quantiser of a weight `[out, ...]` (Esser et al., ICLR 2020), one step α an output channel.

        Q(w) = round(clamp(w/α, −2^(b−1), 2^(b−1) − 1)) α,   round half to even

    with gradient 1 for w inside the clamp, and for α `g Σ G (round(r) − r)`, r = w/α, inside it and `g Σ G r_max`
    outside; g = 1/√(numel(w) Qp), with the number of elements of the *whole* weight and the largest level Qp. Steps
    start at 2 mean|w| / √Qp, one value for all channels (Qiu et al., QSD-Transformer, ICLR 2025).

    With one bit there is no zero and no learned step: `sign(w) mean|w|`, the mean a channel, gradient straight through
    (Zhou et al., DoReFa-Net, 2016). Half-precision weights are quantised in float32.

    Args:
        bits: 1 to 8.
        weight: the weight that the steps start from; None takes that of the first call.
        per_channel: one step an output channel, or one for all.
        signed: levels on both sides of zero, or from 0 to 2^b − 1.
        init: "mean" as above, or "max": the largest magnitude over the largest level.
        grad_scale: "lsq" for g as above, "none" for 1.
        safe: take |α|, at least 1e-12, so that a step that crosses zero does no harm. False as released.
    """

    no_weight_decay = True

    def __init__(
        self,
        bits: int,
        weight: Tensor | None = None,
        per_channel: bool = True,
        signed: bool = True,
        init: Literal["mean", "max"] = "mean",
        grad_scale: Literal["lsq", "none"] = "lsq",
        safe: bool = True,
    ) -> None:
        super().__init__()
        self.low, self.high = level_range(bits, signed)
        if init not in ("mean", "max"):
            raise ArgumentError(f"init must be 'mean' or 'max', got {init!r}")
        if grad_scale not in ("lsq", "none"):
            raise ArgumentError(f"grad_scale must be 'lsq' or 'none', got {grad_scale!r}")
        if bits == 1 and not signed:
            raise ArgumentError("signed must be true for weights of 1 bit")
        self.bits, self.per_channel, self.signed, self.safe = bits, per_channel, signed, safe
        self.init: Literal["mean", "max"] = init
        self.grad_scale: Literal["lsq", "none"] = grad_scale
        self.alpha: nn.Parameter | None
        self.register_parameter("alpha", None)
        if weight is not None:
            self.start(weight)

    @torch.no_grad()
    def start(self, weight: Tensor) -> None:
        """Set the steps to their starting values for `weight`."""
        if self.bits == 1:
            return
        w = weight.detach().float() if weight.dtype in (torch.float16, torch.bfloat16) else weight.detach()
        if w.is_meta:  # PyTorch takes milliseconds to work out that these have no value
            first = w.new_empty(())
        elif self.init == "mean":
            first = 2 * w.abs().mean() / math.sqrt(self.high)
        else:
            first = w.abs().amax() / self.high
        first = first if w.is_meta else first.clamp_min(_SMALLEST_STEP)
        steps = first.expand(w.shape[0] if self.per_channel else 1).clone()
        if self.alpha is not None and self.alpha.shape == steps.shape:
            self.alpha.copy_(steps)
        else:
            self.alpha = nn.Parameter(steps)

    def step(self, weight: Tensor) -> Tensor:
        """The steps, shaped to broadcast against `weight`."""
        if self.bits == 1:
            axes = tuple(range(1, weight.dim())) if self.per_channel else tuple(range(weight.dim()))
            return weight.detach().abs().mean(axes, keepdim=True)
        if self.alpha is None:
            self.start(weight)
        assert self.alpha is not None
        if self.alpha.shape[0] not in (1, weight.shape[0]):
            raise ShapeError(
                f"the quantiser has {self.alpha.shape[0]} steps but the weight {tuple(weight.shape)} has "
                f"{weight.shape[0]} output channels"
            )
        alpha = self.alpha.abs().clamp_min(_SMALLEST_STEP) if self.safe else self.alpha
        return alpha.view(-1, *[1] * (weight.dim() - 1))

    def forward(self, weight: Tensor) -> Tensor:
        """The quantised weight, in the dtype of `weight`."""
        given = weight.dtype
        with without_autocast(weight.device):
            weight = weight.float() if given in (torch.float16, torch.bfloat16) else weight
            step = self.step(weight).to(weight.dtype)
            if self.bits == 1:
                return _Sign.apply(weight, step).to(given)  # pyright: ignore[reportReturnType, reportAttributeAccessIssue, reportOptionalMemberAccess]
            scale = 1.0 if self.grad_scale == "none" else 1 / math.sqrt(max(1, weight.numel()) * self.high)
            made = _Quantize.apply(weight, step, self.low, self.high, scale)
            return made.to(given)  # pyright: ignore[reportReturnType, reportAttributeAccessIssue, reportOptionalMemberAccess]

    @torch.no_grad()
    def integers(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """`(n, step)`: the integer levels as int8 (int16 for 8 unsigned bits) and one step an output channel."""
        step = self.step(weight)
        if self.bits == 1:
            levels = torch.where(weight >= 0, 1, -1)
        else:
            levels = (weight / step).clamp(self.low, self.high).round()
        return levels.to(torch.int8 if self.high < 128 else torch.int16), step.flatten().expand(weight.shape[0])

    def extra_repr(self) -> str:
        steps = "mean|w|" if self.bits == 1 else "not started" if self.alpha is None else str(self.alpha.numel())
        return f"bits={self.bits}, levels={self.low}..{self.high}, steps={steps}"
