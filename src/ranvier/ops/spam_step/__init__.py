"""One update of the SPAM optimiser: clip against the second moment, moments, step, decay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ranvier.ops.backend import use_kernels
from ranvier.ops.spam_step.reference import SpamUpdate, spam_step_reference

__all__ = ["SpamUpdate", "spam_step", "spam_step_reference"]

_FULL = (torch.float32, torch.float64)


def spam_step(
    p: Sequence[Tensor], g: Sequence[Tensor], m: Sequence[Tensor], v: Sequence[Tensor], step: Sequence[float],
    update: SpamUpdate,
) -> list[Tensor | int]:  # fmt: skip
    """Update parameters `p` and moments `m`, `v` in place from gradients `g`, which stay as they are.

    Args:
        p, g, m, v: as many tensors each; the four of a place have one shape.
        step: the step size of each, bias correction included.
        update: the numbers that they share.

    Tensors that lie densely in memory in one dtype go through a kernel that reads and writes each of them once; the
    rest goes through the reference. Returns how many coordinates of each were clipped.
    """
    counts: list[Tensor | int] = [0] * len(p)
    rest: list[int] = []
    for i in range(len(p)):
        flat = _flat(p[i], g[i], m[i], v[i])
        if flat is None:
            rest.append(i)
        elif p[i].numel():
            counts[i] = _kernels(p[i].device.type).update(*flat, step[i], update)
    if rest:
        pp, gg, mm, vv = ([t[i] for i in rest] for t in (p, g, m, v))
        found = spam_step_reference(pp, gg, mm, vv, [step[i] for i in rest], update)
        for i, number in zip(rest, found or [0] * len(rest), strict=True):
            counts[i] = number
    return counts


def _flat(*four: Tensor) -> list[Tensor] | None:
    """The four as they lie in memory, in one dimension; None where no kernel takes them."""
    p = four[0]
    if not use_kernels(p.device.type):
        return None
    on_cpu = p.device.type == "cpu"
    if on_cpu and any(t.dtype != p.dtype or t.dtype not in _FULL for t in four):
        return None
    if any(t.stride() != p.stride() for t in four[1:]):
        if any(t.stride() != p.stride() for t in four[2:]):
            return None
        four = (p, torch.empty_like(p, dtype=four[1].dtype).copy_(four[1]), *four[2:])
        if four[1].stride() != p.stride():
            return None
    if not p.is_contiguous() and sum((n - 1) * s for n, s in zip(p.shape, p.stride(), strict=True)) + 1 != p.numel():
        return None
    return [t.detach().as_strided((t.numel(),), (1,)) for t in four]


def _kernels(device: str) -> Any:
    if device == "cuda":
        from ranvier.ops.spam_step import triton_cuda as kernels
    else:
        from ranvier.ops.spam_step import numba_cpu as kernels
    return kernels
