"""What a delayed synapse is: the kernel over time of a weight at a delay, and the sum over delayed inputs.

A synapse of weight w and delay d (in steps, 0 ≤ d ≤ D) is a kernel of K = D + 1 taps, of which tap n carries delay
D − n: the convolution of a left-padded sequence reads `y[t] = Σ_n k[n] · x[t − D + n]`. Its bump sits at p = D − d:

    gauss   g_n = exp(−½ ((n − p)/s)²),  s = |σ| + 0.27          k_n = w · g_n / (Σ_m g_m + 1e-7)
    max     g_n = max(0, s − |n − p|),   s = |σ| + 1             the same normalisation
    hard    one tap of weight w at the rounded p; the gradient of p is that of "max" at σ = 0, averaged over both sides

(Khalfaoui-Hassani, Pellegrini and Masquelier, "Dilated convolution with learnable spacings", ICLR 2023 and its
extension to Gaussians; Hammouamri, Khalfaoui-Hassani and Masquelier, ICLR 2024, for the delays.)
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

Interpolation = Literal["gauss", "max", "triangle", "hard"]
INTERPOLATIONS = ("gauss", "max", "triangle", "hard")
GAUSS_OFFSET, MAX_OFFSET = 0.27, 1.0
EPS = 1e-7


def half_width(sigma: Tensor, interpolation: Interpolation, offset: float | None = None) -> Tensor:
    """s of the bump: |σ| plus the offset of its kind; a triangle has 1 whatever σ is."""
    if interpolation == "triangle":
        return torch.ones_like(sigma)
    if offset is None:
        offset = GAUSS_OFFSET if interpolation == "gauss" else MAX_OFFSET
    return sigma.abs() + offset


def rounded(delay: Tensor, max_delay: int) -> Tensor:
    """`delay` as whole steps within 0 .. `max_delay`, exact halves as the original code rounds its centred positions
    P = ⌊D/2⌋ − d (to the even P)."""
    centre = max_delay // 2
    return (centre - (centre - delay).round()).clamp(0, max_delay)


class _HardTap(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, delay: Tensor, max_delay: int) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        tap = (max_delay - rounded(delay, max_delay)).long()
        kernel = weight.new_zeros((*weight.shape, max_delay + 1))
        kernel.scatter_(-1, tap.unsqueeze(-1), weight.unsqueeze(-1))
        ctx.save_for_backward(weight, tap)
        return kernel

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        weight, tap = ctx.saved_tensors
        last = grad.shape[-1] - 1
        here = grad.gather(-1, tap.unsqueeze(-1)).squeeze(-1)
        later = grad.gather(-1, (tap - 1).clamp_min(0).unsqueeze(-1)).squeeze(-1)
        sooner = grad.gather(-1, (tap + 1).clamp_max(last).unsqueeze(-1)).squeeze(-1)
        sides = (tap > 0).to(grad.dtype) + (tap < last).to(grad.dtype)
        return here, weight * (later - sooner) / sides.clamp_min(1), None


def bump_kernel_reference(
    weight: Tensor, delay: Tensor, sigma: Tensor, max_delay: int, interpolation: Interpolation,
    offset: float | None = None,
) -> Tensor:  # fmt: skip
    """Kernels `[O, I, K]` of `weight` and `delay` `[O, I, C]` (C a pair, summed); `sigma` broadcasts to them."""
    weight, delay = torch.broadcast_tensors(weight, delay)
    if interpolation == "hard":
        kernel = _HardTap.apply(weight, delay, max_delay)
        assert isinstance(kernel, Tensor)
        return kernel.sum(2)
    distance = torch.arange(max_delay + 1, device=weight.device, dtype=delay.dtype) - (max_delay - delay).unsqueeze(-1)
    s = half_width(sigma.to(delay.dtype), interpolation, offset)
    s = s.unsqueeze(-1) if s.dim() else s
    g = (-0.5 * (distance / s).square()).exp() if interpolation == "gauss" else (s - distance.abs()).relu()
    q = g / (g.sum(-1, keepdim=True) + EPS)
    return (weight.unsqueeze(-1) * q).sum(2)


def delayed_sum_reference(x: Tensor, kernel: Tensor, history: Tensor | None = None) -> Tensor:
    """`y[t, b, o] = Σ_{i, n} kernel[o, i, n] · x[t − D + n, b, i]` as a loop over taps.

    `x` is `[T, B, I]`, `kernel` `[O, I, K]`, `history` the D inputs before `x`, oldest first (zeros when None).
    """
    reach = kernel.shape[2] - 1
    before = x.new_zeros((reach, *x.shape[1:])) if history is None else history
    whole = torch.cat([before, x]) if reach else x
    steps = x.shape[0]
    y = whole[:steps] @ kernel[:, :, 0].T
    for n in range(1, reach + 1):
        y = y + whole[n : n + steps] @ kernel[:, :, n].T
    return y
