"""Counts as bursts of binary spikes: D virtual time steps for every step."""

from __future__ import annotations

import torch
from torch import Tensor

from ranvier.errors import ArgumentError, ShapeError


def expand(counts: Tensor, levels: int) -> Tensor:
    """Integers 0..D of every step as D binary steps: `[T, ...]` to `[T·D, ...]`, slot d of step t at `t·D + d`.

    Thermometer code: slot d (from 0) is `1[n > d]`, so a count n is a burst in the first n slots. `bin_sum` is the
    inverse. Raises `ArgumentError` for values that are not integers from 0 to `levels`.
    """
    _check_levels(levels)
    if counts.dim() == 0:
        raise ShapeError("counts must have a time axis [T, ...], got a single number")
    off = (counts != counts.round()) | (counts < 0) | (counts > levels)
    if bool(off.any()):
        raise ArgumentError(f"counts must be integers from 0 to {levels}, got {counts[off][0].item():g}")
    return torch.stack([slot(counts, d) for d in range(levels)], 1).flatten(0, 1)


def slot(counts: Tensor, d: int) -> Tensor:
    """Virtual step d (from 0) of `counts`: `1[n > d]`, in their dtype."""
    return (counts > d + 0.5).to(counts.dtype)


def bin_sum(slots: Tensor, levels: int) -> Tensor:
    """Sums over the D virtual steps of every step: `[T·D, ...]` to `[T, ...]`; for spikes the inverse of `expand`."""
    _check_levels(levels)
    if slots.dim() == 0 or slots.shape[0] % levels:
        raise ShapeError(f"slots must be [T·{levels}, ...], got shape {tuple(slots.shape)}")
    return slots.unflatten(0, (-1, levels)).sum(1)


def _check_levels(levels: int) -> None:
    if not isinstance(levels, int) or isinstance(levels, bool) or levels < 1:
        raise ArgumentError(f"levels must be an integer >= 1, got {levels!r}")
