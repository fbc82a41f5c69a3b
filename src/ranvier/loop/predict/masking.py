"""Masks of radially masked autoencoding: whole groups of beams about the sensor, a mask of its own for each sample."""

from __future__ import annotations

import torch
from torch import Tensor

from ranvier.errors import ArgumentError


def radial_mask(n_beams: int, ratio: float, group: int = 4, *, batch: int | None = None,
                generator: torch.Generator | None = None) -> Tensor:  # fmt: skip
    """Which beams are sensed: int((1 − ratio) G) of the G groups of neighbouring beams, drawn at random.

    Args:
        n_beams: beams of the full circle; a multiple of `group`.
        ratio: share that is masked, in [0, 1].
        group: beams that are fired together.
        batch: number of masks, each drawn anew; None for one of shape `[n_beams]`.

    Returns bool `[batch, n_beams]`, true where sensed (R-MAE, Tayebati et al. 2024, here about the sensor itself).
    """
    if group < 1 or n_beams < 1 or n_beams % group:
        raise ArgumentError(f"n_beams must be a positive multiple of group, got {n_beams} and {group}")
    if not 0 <= ratio <= 1:
        raise ArgumentError(f"ratio must be in [0, 1], got {ratio}")
    groups = n_beams // group
    kept = int((1 - ratio) * groups + 1e-9)
    order = torch.rand(batch or 1, groups, generator=generator).argsort(1)
    mask = torch.zeros(batch or 1, groups, dtype=torch.bool).scatter_(1, order[:, :kept], True)
    mask = mask.repeat_interleave(group, 1)
    return mask if batch is not None else mask[0]
