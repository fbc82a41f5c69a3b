"""The definition of one SPAM update (Huang et al., ICLR 2025), in plain torch.

For every coordinate, with the root of the spike threshold ρ, g the gradient and m, v the two moments:

    limit   l = ρ √v                     v of the step before, as it is stored
    clip    c = sign(g) l  where |g| > l (and v > 0, with the guard), else g; `zero` puts 0 in place of sign(g) l
    moments m ← β₁ m + (1 − β₁) c,   v ← β₂ v + (1 − β₂) c²
    step    w ← w − s m / (√v + ε),  then w ← w − d w

s holds the learning rate, the warm-up after a reset and the bias correction; d is the learning rate times the decay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class SpamUpdate:
    """Everything about one update that is not a tensor. `root` None: nothing is clipped."""

    beta1: float
    beta2: float
    eps: float
    decay: float
    root: float | None
    guard: bool = True
    zero: bool = False
    maximize: bool = False


def spam_step_reference(
    p: Sequence[Tensor], g: Sequence[Tensor], m: Sequence[Tensor], v: Sequence[Tensor], step: Sequence[float],
    u: SpamUpdate, count: bool = True,
) -> list[Tensor]:  # fmt: skip
    """Update lists of parameters and moments in place, all of one work dtype (that of the moments), `g` untouched.

    Returns the number of clipped coordinates of every tensor as 0-D tensors (nothing when `count` is false).
    """
    p, m, v = list(p), list(m), list(v)
    work = [t if t.dtype == like.dtype else t.to(like.dtype) for t, like in zip(g, m, strict=True)]
    if u.maximize:
        work = list(torch._foreach_neg(work))  # pyright: ignore[reportPrivateImportUsage]
    counts: list[Tensor] = []
    if u.root is not None:
        limits = torch._foreach_sqrt(v)  # pyright: ignore[reportPrivateImportUsage]
        torch._foreach_mul_(limits, u.root)  # pyright: ignore[reportPrivateImportUsage]
        for i, (t, limit) in enumerate(zip(work, limits, strict=True)):
            spiked = t.abs() > limit
            if u.guard:
                spiked &= v[i] > 0
            if count:
                counts.append(spiked.sum())
            work[i] = torch.where(spiked, torch.zeros_like(t) if u.zero else torch.copysign(limit, t), t)
    torch._foreach_mul_(m, u.beta1)  # pyright: ignore[reportPrivateImportUsage]
    torch._foreach_add_(m, work, alpha=1 - u.beta1)  # pyright: ignore[reportPrivateImportUsage]
    torch._foreach_mul_(v, u.beta2)  # pyright: ignore[reportPrivateImportUsage]
    torch._foreach_addcmul_(v, work, work, value=1 - u.beta2)  # pyright: ignore[reportPrivateImportUsage]
    roots = torch._foreach_sqrt(v)  # pyright: ignore[reportPrivateImportUsage]
    torch._foreach_add_(roots, u.eps)  # pyright: ignore[reportPrivateImportUsage]
    if all(t.dtype == like.dtype for t, like in zip(p, m, strict=True)):
        torch._foreach_addcdiv_(p, m, roots, [-s for s in step])  # pyright: ignore[reportPrivateImportUsage]
        if u.decay:
            torch._foreach_mul_(p, 1 - u.decay)  # pyright: ignore[reportPrivateImportUsage]
    else:  # half-precision weights: the update is rounded once
        for t, first, root, s in zip(p, m, roots, step, strict=True):
            t.copy_(torch.addcdiv(t.to(first.dtype), first, root, value=-s) * (1 - u.decay))
    return counts
