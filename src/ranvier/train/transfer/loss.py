"""The knowledge-transfer loss: classification in both domains, alignment between them, a coefficient a step."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from ranvier.errors import ArgumentError, ShapeError
from ranvier.train.loss import cross_entropy, tet
from ranvier.train.transfer.alignment import DomainAlignmentLoss, weighted_mean
from ranvier.train.transfer.coefficients import TemporalCoefficients
from ranvier.train.transfer.semantic import SemanticLoss

Classifier = Literal["tet", "cross_entropy"]


class TETLoss(nn.Module):
    """Temporal efficient training with a weight a step: `(1/T) Σ w_t [(1 − λ) CE_t + λ MSE(o_t, φ)]`.

    Args:
        lam, target: λ and φ. The paper's are 1e-3 and the firing threshold 0.5.
        label_smoothing: of the cross-entropy.
    """

    def __init__(self, lam: float = 1e-3, target: float = 0.5, label_smoothing: float = 0.0) -> None:
        super().__init__()
        if not 0 <= lam <= 1:
            raise ArgumentError(f"lam must lie in [0, 1], got {lam!r}")
        self.lam, self.target, self.label_smoothing = float(lam), float(target), float(label_smoothing)

    def steps(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of each step, `[T]`, of logits `[T, B, K]` and labels `[B]`."""
        if logits.dim() != 3 or tuple(labels.shape) != (logits.shape[1],):
            raise ShapeError(
                f"logits must be [T, B, K] with labels [B], got {tuple(logits.shape)} and {tuple(labels.shape)}"
            )
        every = labels.expand(logits.shape[0], -1)
        entropy = F.cross_entropy(
            logits.flatten(0, 1), every.flatten(), reduction="none", label_smoothing=self.label_smoothing
        )
        each = entropy.view(logits.shape[:2]).mean(1)
        return (1 - self.lam) * each + self.lam * (logits - self.target).square().mean((1, 2))

    def forward(self, logits: Tensor, labels: Tensor, step_weight: Tensor | None = None) -> Tensor:
        if step_weight is None:
            return tet(logits, labels, self.lam, self.target, self.label_smoothing)
        return weighted_mean(self.steps(logits, labels), step_weight)


class TransferTerms(NamedTuple):
    """The parts of the loss; `total = static + event + coefficient · alignment + penalty`, and
    `semantic_coefficient · semantic`."""

    total: Tensor
    static: Tensor
    event: Tensor
    alignment: Tensor
    penalty: Tensor
    semantic: Tensor


class KnowledgeTransferLoss(nn.Module):
    """`L_s + L_e + λ_d L_align` (He et al., AAAI 2024).

    Args:
        alignment: of the features; None leaves it out.
        coefficients: weigh alignment and event loss at every step; None: both count fully.
        coefficient: λ_d.
        classifier: a `TETLoss`, or "cross_entropy" for that of the logits' mean over time.
        label_smoothing: of "cross_entropy".
        semantic, semantic_coefficient: the term that keeps classes apart, and its weight; 0 leaves it out, as published
            last. It counts while the attribute `keeps_apart` is set.
    """

    def __init__(
        self,
        alignment: DomainAlignmentLoss | None = None,
        coefficients: TemporalCoefficients | None = None,
        coefficient: float = 0.5,
        classifier: TETLoss | Literal["cross_entropy"] | None = None,
        label_smoothing: float = 0.0,
        semantic: SemanticLoss | None = None,
        semantic_coefficient: float = 0.0,
    ) -> None:
        super().__init__()
        if classifier == "cross_entropy" and coefficients is not None:
            raise ArgumentError("coefficients weigh the event loss of every step; they need a TETLoss as classifier")
        if not coefficient >= 0:
            raise ArgumentError(f"coefficient must be at least 0, got {coefficient!r}")
        self.alignment, self.coefficients, self.coefficient = alignment, coefficients, float(coefficient)
        self.classifier = None if classifier == "cross_entropy" else classifier or TETLoss()
        self.label_smoothing = label_smoothing
        if not semantic_coefficient >= 0:
            raise ArgumentError(f"semantic_coefficient must be at least 0, got {semantic_coefficient!r}")
        self.semantic = semantic or (SemanticLoss() if semantic_coefficient else None)
        self.semantic_coefficient, self.keeps_apart = float(semantic_coefficient), True

    def forward(
        self,
        static_logits: Tensor,
        event_logits: Tensor,
        static_features: Tensor,
        event_features: Tensor,
        labels: Tensor,
    ) -> TransferTerms:
        """Logits `[T, B, K]` and features `[T, B, ...]` of both domains with their common labels `[B]`."""
        if static_logits.shape != event_logits.shape:
            raise ShapeError(
                f"the logits of both domains must have one shape [T, B, K], got {tuple(static_logits.shape)} and "
                f"{tuple(event_logits.shape)}"
            )
        sigma = None if self.coefficients is None else self.coefficients()
        if sigma is not None and len(sigma) != len(event_logits):
            raise ShapeError(f"there are {len(sigma)} temporal coefficients for logits of T={len(event_logits)} steps")
        if self.classifier is None:
            static, event = (cross_entropy(o, labels, self.label_smoothing) for o in (static_logits, event_logits))
        else:
            static = self.classifier(static_logits, labels)
            event = self.classifier(event_logits, labels, None if sigma is None else 1 - sigma)
        zero = event.new_zeros(())
        aligned = zero
        if self.alignment is not None and self.coefficient:
            aligned = self.alignment(static_features, event_features, sigma)
        penalty = zero if self.coefficients is None else self.coefficients.penalty()
        total, apart = static + event + self.coefficient * aligned + penalty, zero
        if self.semantic is not None and self.semantic_coefficient and self.keeps_apart:
            apart = self.semantic(static_features, event_features, labels)
            total = total + self.semantic_coefficient * apart
        return TransferTerms(total, static, event, aligned, penalty, apart)
