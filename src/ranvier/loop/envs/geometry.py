"""Distances along beams in a plane of discs and walls, in closed form."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ranvier.ops.backend import use_kernels

BEAMS, SECTORS = 120, 30
PER_SECTOR = BEAMS // SECTORS
STEP = 2 * math.pi / BEAMS
"""The angle between neighbouring beams: 3 degrees."""

ANGLES = torch.arange(BEAMS, dtype=torch.float64) * STEP
SECTOR_ANGLES = (torch.arange(SECTORS, dtype=torch.float64) + (PER_SECTOR - 1) / (2 * PER_SECTOR)) * PER_SECTOR * STEP
"""The middle of a sector's four beams."""


def wrap(angle: Tensor) -> Tensor:
    """An angle in radians, brought to [−π, π)."""
    return torch.remainder(angle + math.pi, 2 * math.pi) - math.pi


def to_discs(origin: Tensor, centre: Tensor, radius: Tensor, angles: Tensor = ANGLES) -> tuple[Tensor, Tensor]:
    """Distance from `origin` `[N, 2]` to the nearest of D discs along `angles` `[A]`.

    Args:
        centre: `[N, D, 2]`; `radius`: `[N, D]`, 0 or less for a disc that is not there.

    Returns distances `[N, A]` (infinite where no disc is hit, 0 from inside one) and the index of the disc.
    """
    if centre.shape[1] == 0:
        nothing = origin.new_full((origin.shape[0], len(angles)), math.inf)
        return nothing, torch.zeros(nothing.shape, dtype=torch.long)
    doubles = all(t.dtype == torch.float64 and not t.requires_grad for t in (origin, centre, radius, angles))
    if not doubles or not use_kernels(origin.device.type):
        return _to_discs_reference(origin, centre, radius, angles)
    from ranvier.loop.envs.numba_geometry import cast_on_discs

    distance = torch.empty(origin.shape[0], len(angles), dtype=torch.float64)
    which = torch.empty(distance.shape, dtype=torch.long)
    o, c, r, cosine, sine = (t.contiguous().numpy() for t in (origin, centre, radius, angles.cos(), angles.sin()))
    cast_on_discs(o, c, r, cosine, sine, distance.numpy(), which.numpy())
    return distance, which


def _to_discs_reference(origin: Tensor, centre: Tensor, radius: Tensor, angles: Tensor) -> tuple[Tensor, Tensor]:
    offset = centre - origin[:, None]  # [N, D, 2]
    along = offset[..., :1] * angles.cos() + offset[..., 1:] * angles.sin()  # [N, D, A]; no BLAS: it rounds by batch
    gap = (radius**2 - (offset**2).sum(-1))[..., None] + along**2
    distance = along - gap.clamp_min(0).sqrt()
    inside = ((offset**2).sum(-1) <= radius**2)[..., None]
    reached = ((gap >= 0) & (along > 0)) | inside
    reached = reached & (radius > 0)[..., None]
    distance = torch.where(reached, distance.clamp_min(0), math.inf)
    nearest = distance.min(dim=1)
    return nearest.values, nearest.indices


def to_walls(origin: Tensor, size: float, angles: Tensor = ANGLES) -> Tensor:
    """Distance `[N, A]` from `origin` `[N, 2]`, inside the square [0, size]², to its walls."""
    x, y = origin[:, :1], origin[:, 1:]
    c, s = angles.cos(), angles.sin()
    far = torch.full((), math.inf, dtype=origin.dtype)
    across = torch.where(c > 0, (size - x) / c, torch.where(c < 0, -x / c, far))
    along = torch.where(s > 0, (size - y) / s, torch.where(s < 0, -y / s, far))
    return torch.minimum(across, along).clamp_min(0)
