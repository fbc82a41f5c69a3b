"""Spike-aware clipping on its own, for other optimisers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ranvier.errors import ArgumentError, ShapeError


@torch.no_grad()
def clip_grad_spikes_(
    grads: Tensor | Sequence[Tensor], second_moments: Tensor | Sequence[Tensor], threshold: float = 5000.0,
    guard_zero_v: bool = True,
) -> Tensor:  # fmt: skip
    """Pull every gradient with g² > θ v back to sign(g) √(θ v), in place (Huang et al., ICLR 2025).

    Args:
        grads: gradients, or one of them.
        second_moments: v of Adam for each, as it is stored (without bias correction), of the same shapes.
        threshold: θ > 0, on the square.
        guard_zero_v: leave coordinates with v = 0 alone; they would be set to 0 and could never move again.

    Returns how many coordinates were clipped (0-D int64). NaN stays NaN; an infinite gradient becomes the limit.
    """
    if not (isinstance(threshold, int | float) and threshold > 0 and math.isfinite(threshold)):
        raise ArgumentError(f"threshold must be a positive number, got {threshold!r}")
    grads = [grads] if isinstance(grads, Tensor) else list(grads)
    moments = [second_moments] if isinstance(second_moments, Tensor) else list(second_moments)
    if len(grads) != len(moments):
        raise ShapeError(f"{len(grads)} gradients need as many second moments, got {len(moments)}")
    clipped = torch.zeros((), dtype=torch.int64, device=grads[0].device if grads else None)
    for g, v in zip(grads, moments, strict=True):
        if g.shape != v.shape:
            raise ShapeError(f"a gradient of shape {tuple(g.shape)} has second moments of shape {tuple(v.shape)}")
        limit = math.sqrt(threshold) * v.sqrt()
        spiked = g.abs() > limit
        if guard_zero_v:
            spiked &= v > 0
        clipped += spiked.sum().to(clipped.device)
        g.copy_(torch.where(spiked, torch.copysign(limit.to(g.dtype), g), g))
    return clipped
