"""Keeping classes apart across domains: recordings should not look like images of other classes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError, ShapeError
from ranvier.train.transfer.alignment import DomainAlignmentLoss
from ranvier.train.transfer.cka import Kernel


def strangers(labels: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """For every sample the number of one of another class, `[B]`: first a class of the batch is drawn, then a sample.

    Drawn on the CPU. Raises `ArgumentError` for labels of a single class.
    """
    y = labels.cpu()
    other = y[:, None] != y
    if not bool(other.any(1).all()):
        raise ArgumentError("labels: all samples are of one class, so there is none of another")
    size = (y[:, None] == y).sum(0)
    return torch.multinomial(other / size, 1, generator=generator)[:, 0].to(labels.device)


class SemanticLoss(nn.Module):
    """`(1/T) Σ_t |CKA(z_s'(t), z_e(t))|` where z_s' belongs to images of other classes; 0 when it is at most `margin`.

    The additional term of the first version of the paper (arXiv 2303.13077v1); the published margins are 0.1
    (CIFAR10-DVS), 0.3 (N-Caltech101) and 0.2 (others). As there, nothing is subtracted above the margin. With few
    samples and many features the plain CKA is near 1 whatever the features; `debiased` is not.

    Args:
        margin: in [0, 1).
        kernel, debiased, eps: of the alignment.
    """

    def __init__(
        self, margin: float = 0.2, kernel: Kernel = "linear", debiased: bool = False, eps: float = 1e-7
    ) -> None:
        super().__init__()
        if not 0 <= margin < 1:
            raise ArgumentError(f"margin must lie in [0, 1), got {margin!r}")
        self.margin = float(margin)
        self.distance = DomainAlignmentLoss(kernel, debiased, eps)

    def forward(
        self, source: Tensor, event: Tensor, labels: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Features `[T, B, ...]` of both domains and their common labels `[B]`; a scalar, 0 for a single class."""
        if source.dim() < 3 or tuple(labels.shape) != (source.shape[1],):
            raise ShapeError(
                f"features must be [T, B, ...] with labels [B], got {tuple(source.shape)} and {tuple(labels.shape)}"
            )
        if len(labels.unique()) < 2:
            return event.new_zeros(())
        found = (1 - self.distance.steps(source[:, strangers(labels, generator)], event)).mean()
        return torch.where(found > self.margin, found, 0)

    def extra_repr(self) -> str:
        return f"margin={self.margin:g}, {self.distance.extra_repr()}"
