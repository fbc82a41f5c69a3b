"""The kernel over time of delayed synapses, as a function."""

from __future__ import annotations

import torch
from torch import Tensor

from ranvier.errors import ArgumentError, ShapeError
from ranvier.ops.delay import INTERPOLATIONS, Interpolation, bump_taps


def check_interpolation(interpolation: str) -> None:
    """`ArgumentError` unless it is one of the known ones."""
    if interpolation not in INTERPOLATIONS:
        raise ArgumentError(f"interpolation must be one of {', '.join(INTERPOLATIONS)}; got {interpolation!r}")


def check_max_delay(max_delay: int) -> None:
    """`ArgumentError` unless it is a whole number of steps."""
    if not isinstance(max_delay, int) or isinstance(max_delay, bool) or max_delay < 0:
        raise ArgumentError(f"max_delay must be a whole number of steps >= 0, got {max_delay!r}")


def delay_kernel(
    weight: Tensor,
    delay: Tensor,
    max_delay: int,
    sigma: float | Tensor = 0.0,
    interpolation: Interpolation = "gauss",
    offset: float | None = None,
) -> Tensor:
    """Kernels `[O, I, K]` over time of synapses with weights and delays; tap n carries delay K − 1 − n.

    Args:
        weight: `[O, I, C]`: C synapses between every pair of neurons, whose kernels add up; `[O, I]` for one.
        delay: in steps, 0 .. `max_delay`; broadcasts to `weight`.
        max_delay: D; K = D + 1 taps.
        sigma: σ of the bumps, as the DCLS package counts it: a Gaussian has standard deviation |σ| + 0.27, a triangle
            ("max") half-width |σ| + 1. A tensor broadcasts to `weight`.
        interpolation: "gauss", "max", "triangle" ("max" at σ = 0: linear between two taps) or "hard" (one tap at the
            rounded delay, straight-through gradient).
        offset: replaces 0.27 or 1.

    The taps of a bump sum to its weight, also at the borders. Differentiable in weight, delay and σ.
    Khalfaoui-Hassani, Pellegrini and Masquelier, "Dilated convolution with learnable spacings", ICLR 2023. Raises
    `ShapeError` when shapes do not broadcast, and `ArgumentError` for a delay outside 0 .. `max_delay`.
    """
    check_interpolation(interpolation)
    check_max_delay(max_delay)
    if weight.dim() == 2:
        weight, delay = weight.unsqueeze(-1), delay.unsqueeze(-1) if delay.dim() == 2 else delay
    try:
        delay = delay.expand(weight.shape)
    except RuntimeError:
        raise ShapeError(
            f"delay of shape {tuple(delay.shape)} does not broadcast to weight {tuple(weight.shape)} [O, I, C]"
        ) from None
    check_delays(delay, max_delay, 1e-4)
    given = sigma if isinstance(sigma, Tensor) else torch.tensor(float(sigma), dtype=weight.dtype, device=weight.device)
    return bump_taps(weight, delay, given, max_delay, interpolation, offset).permute(1, 2, 0)


def check_delays(delay: Tensor, max_delay: int, slack: float) -> bool:
    """Whether all delays lie in 0 .. `max_delay`; `ArgumentError` when one is further out than `slack`, or not finite.

    Traced code and tensors without values are not checked.
    """
    if torch.compiler.is_compiling() or delay.device.type == "meta" or delay.numel() == 0:
        return True
    low, high = (float(v) for v in torch.aminmax(delay.detach()))
    if low >= 0 and high <= max_delay:
        return True
    if not (low >= -slack and high <= max_delay + slack):  # NaN fails both
        raise ArgumentError(
            f"delays must lie in 0 .. {max_delay} steps, the buffer of this layer; got {low:g} .. {high:g}. Give a "
            "larger max_delay, or call clamp_delays_(model) after every update"
        )
    return False
