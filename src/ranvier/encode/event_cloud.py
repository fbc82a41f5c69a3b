"""Event clouds as non-negative coordinates that spikes can code (SpikePoint, Ren et al., ICLR 2024)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError, ShapeError
from ranvier.ops.points import farthest_point_sample, group, knn

Sign = Literal["abs", "affine", "raw"]
Anchor = Literal["min", "mean"]
Scope = Literal["cloud", "group"]

HALF_NORMAL_MEAN = math.sqrt(2 / math.pi)
"""E|z| of a standard normal z: what taking absolute values adds to a coordinate, in standard deviations."""


class EventCloudGrouper(nn.Module):
    """Groups of neighbours around centroids: relative coordinates in [0, …), a corner of the group, and its centroid.

    For group j with centroid c and members g: `Δ = |g − c| / (SD + 1e−5)`, SD one number for the cloud; the lost signs
    are made up for by the group's lowest corner m: the features of a member are (Δ, m). Values above 1, about a third
    of a normal cloud, reach the encoder clipped.

    Args:
        num_groups: centroids M; all points are when M is their number (no sampling is needed then).
        k: neighbours K of a centroid, itself included.
        sd_scope: the spread is that of the "cloud", or of each "group".
        sign: "abs" as published; "affine" maps signed offsets of the cloud linearly onto [0, 1]; "raw" is |g − c|,
            not divided by the spread.
        anchor: "min" is the lowest corner; "mean" is c − √(2/π) SD, the correction that holds on average, at least 0.
        centroid_branch: also give the centroids.
    """

    def __init__(
        self, num_groups: int = 1024, k: int = 24, sd_scope: Scope = "cloud", sign: Sign = "abs",
        anchor: Anchor = "min", centroid_branch: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        for name, value in (("num_groups", num_groups), ("k", k)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ArgumentError(f"{name} must be a positive integer, got {value!r}")
        for name, value, known in (
            ("sd_scope", sd_scope, ("cloud", "group")), ("sign", sign, ("abs", "affine", "raw")),
            ("anchor", anchor, ("min", "mean")),
        ):  # fmt: skip
            if value not in known:
                raise ArgumentError(f"{name} must be one of {', '.join(map(repr, known))}, got {value!r}")
        self.num_groups, self.k = num_groups, k
        self.sd_scope: Scope = sd_scope
        self.sign: Sign = sign
        self.anchor: Anchor = anchor
        self.centroid_branch = centroid_branch

    def forward(self, clouds: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor | None]:
        """Clouds `[B, N, 3]` with coordinates in [0, 1] to members `[B, M, K, 6]` and centroids `[B, M, 3]`.

        In training the first centroid is drawn at random, in evaluation it is the point nearest to the mean.
        """
        if clouds.dim() != 3 or clouds.shape[1] < max(self.num_groups, self.k):
            raise ShapeError(
                f"clouds must be [B, N, D] with at least {max(self.num_groups, self.k)} points (num_groups "
                f"{self.num_groups}, k {self.k}), got shape {tuple(clouds.shape)}"
            )
        with torch.no_grad():
            centres = self._centres(clouds, generator)
            members = group(clouds, knn(centres, clouds, self.k))
            offsets = members - centres[:, :, None]
            spread = self._spread(offsets)
            corner = members.amin(2)
            if self.anchor == "mean":
                corner = (centres - HALF_NORMAL_MEAN * spread.reshape(len(clouds), -1, 1)).clamp_min(0)
            x1 = torch.cat([self._positive(offsets, spread), corner[:, :, None].expand_as(members)], -1)
        return x1, centres if self.centroid_branch else None

    def _centres(self, clouds: Tensor, generator: torch.Generator | None) -> Tensor:
        b, n, _ = clouds.shape
        if self.num_groups == n:
            return clouds
        start = torch.randint(n, (b,), generator=generator).to(clouds.device) if self.training else None
        rows = farthest_point_sample(clouds, self.num_groups, start).sort(1).values  # in the order of time
        return group(clouds, rows[..., None])[:, :, 0]

    def _spread(self, offsets: Tensor) -> Tensor:
        own = offsets.flatten(1) if self.sd_scope == "cloud" else offsets.flatten(2)
        return own.std(-1).view(len(offsets), -1, 1, 1)

    def _positive(self, offsets: Tensor, spread: Tensor) -> Tensor:
        if self.sign == "raw":
            return offsets.abs()
        if self.sign == "abs":
            return offsets.abs() / (spread + 1e-5)
        flat = offsets.flatten(1)
        low, high = flat.amin(1).view(-1, 1, 1, 1), flat.amax(1).view(-1, 1, 1, 1)
        return (offsets - low) / (high - low).clamp_min(1e-9)
