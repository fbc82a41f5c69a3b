"""The domain-alignment loss: one minus the alignment of the two domains' features, step by step."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError, ShapeError
from ranvier.train.transfer.cka import KERNELS, Kernel, cka_each
from ranvier.train.transfer.discrepancy import coral_each, mmd_each

Distance = Literal["cka", "mmd", "coral"]
DISTANCES = ("cka", "mmd", "coral")


class DomainAlignmentLoss(nn.Module):
    """`(1/T) Σ_t w_t (1 − |CKA(z_s(t), z_e(t))|)` of features paired by class (He et al., AAAI 2024).

    Args:
        kernel: "linear" or "rbf" (`cka`).
        debiased: the unbiased estimate. The published loss is the plain one, which is near 0 for any features when the
            batch is much smaller than their number.
        eps: in the denominator.
        distance: "cka", or "mmd" or "coral" in its place, for comparison.

    Both domains get a gradient.
    """

    def __init__(
        self, kernel: Kernel = "linear", debiased: bool = False, eps: float = 1e-7, distance: Distance = "cka"
    ) -> None:
        super().__init__()
        for name, given, known in (("kernel", kernel, KERNELS), ("distance", distance, DISTANCES)):
            if given not in known:
                raise ArgumentError(f"{name} must be one of {', '.join(known)}; got {given!r}")
        if not eps >= 0:
            raise ArgumentError(f"eps must be a number of at least 0, got {eps!r}")
        self.kernel: Kernel = kernel
        self.debiased = debiased
        self.eps = float(eps)
        self.distance: Distance = distance

    def steps(self, source: Tensor, event: Tensor) -> Tensor:
        """The distance at every step, `[T]`, of features `[T, B, ...]`; `[B, D]` is taken as a single step.

        Raises `ShapeError` when steps or samples differ, and for a batch of one, whose alignment is not defined.
        """
        if source.dim() == 2 and event.dim() == 2:
            source, event = source.unsqueeze(0), event.unsqueeze(0)
        if source.dim() < 3 or event.dim() < 3:
            raise ShapeError(
                f"features must be [T, B, ...] of both domains, got {tuple(source.shape)} and {tuple(event.shape)}"
            )
        for axis, what in ((0, "steps T"), (1, "samples B")):
            if source.shape[axis] != event.shape[axis]:
                raise ShapeError(
                    f"the domains must have the same {what}: the static features have {source.shape[axis]}, those of "
                    f"the events {event.shape[axis]} (shapes {tuple(source.shape)} and {tuple(event.shape)})"
                )
        if source.shape[0] == 0:
            raise ShapeError("features must have at least one step, got T=0")
        if source.shape[1] < 2:
            raise ShapeError(
                f"the alignment of a batch of one is not defined; give at least two samples, got {tuple(source.shape)}"
            )
        if self.distance == "cka":
            return 1 - cka_each(source, event, self.kernel, self.debiased, self.eps).abs()
        if source.flatten(2).shape != event.flatten(2).shape:
            raise ShapeError(
                f"{self.distance} needs as many features in both domains, got {tuple(source.shape)} and "
                f"{tuple(event.shape)}"
            )
        if source.dtype in (torch.float16, torch.bfloat16):
            source, event = source.float(), event.float()
        return mmd_each(source, event, self.kernel) if self.distance == "mmd" else coral_each(source, event)

    def forward(self, source: Tensor, event: Tensor, weights: Tensor | None = None) -> Tensor:
        """The mean over the steps of `steps(source, event)`, each times its weight (`[T]`); a scalar."""
        return weighted_mean(self.steps(source, event), weights)

    def extra_repr(self) -> str:
        return f"{self.distance}, kernel={self.kernel}, debiased={self.debiased}"


def weighted_mean(steps: Tensor, weights: Tensor | None) -> Tensor:
    """`(1/T) Σ w_t x_t`; `ShapeError` for a wrong number of weights."""
    if weights is None:
        return steps.mean()
    if weights.shape != steps.shape:
        raise ShapeError(f"weights must be one for each of {len(steps)} steps, got shape {tuple(weights.shape)}")
    return (weights.to(steps.dtype) * steps).mean()
