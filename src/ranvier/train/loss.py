"""Losses on per-step logits `[T, B, K]`, with labels, labels of every frame, or soft targets."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ranvier.errors import ArgumentError, ShapeError
from ranvier.train.readout import Readout, read_out
from ranvier.train.recipe import TrainSection


def cross_entropy(
    logits: Tensor, target: Tensor, label_smoothing: float = 0.0, readout: Readout = "mean"
) -> Tensor:  # fmt: skip
    """Softmax cross-entropy of the `readout` of `logits` (`[T, B, K]`), by default their mean over time; a scalar.

    `target` is int64 labels `[B]`, smoothed by `label_smoothing` s to (1 − s) onehot + s / K, or probabilities
    `[B, K]` (after mixup, say), which are taken as they are. Labels of every frame, `[B, F]`, are compared with each
    step on its own: the mean over steps of its cross-entropy with the label of its frame; T is a multiple of F (several
    steps a frame where a net decides at many places).
    """
    if target.dim() == 2 and not target.is_floating_point():
        return _each_frame(logits, target, label_smoothing)
    _check(logits, target)
    smoothing = 0.0 if target.is_floating_point() else label_smoothing
    return F.cross_entropy(read_out(logits, readout), target, label_smoothing=smoothing)


def tet(logits: Tensor, target: Tensor, lam: float = 0.05, phi: float = 1.0, label_smoothing: float = 0.0) -> Tensor:
    """Temporal efficient training: `(1 − λ) · mean_t CE(logits_t, y) + λ · mean (logits − φ)²`; a scalar.

    Deng, Li, Zhang and Gu, "Temporal Efficient Training of Spiking Neural Network via Gradient Re-weighting"
    (ICLR 2022), equations 10 to 12. `target` as in `cross_entropy`; λ = `lam` in [0, 1], φ = `phi`.
    """
    _check(logits, target)
    if not 0 <= lam <= 1:
        raise ArgumentError(f"lam must lie in [0, 1], got {lam!r}")
    smoothing = 0.0 if target.is_floating_point() else label_smoothing
    steps = target.expand(logits.shape[0], *target.shape).flatten(0, 1)
    each = F.cross_entropy(logits.flatten(0, 1), steps, label_smoothing=smoothing)
    if lam == 0:
        return each
    return (1 - lam) * each + lam * (logits - phi).square().mean()


def binary(logits: Tensor, target: Tensor) -> Tensor:
    """Mean over steps, samples and classes of the cross-entropy of each class on its own (a sigmoid each); a scalar.

    `target` is labels `[B]`, labels of every frame `[B, F]` (see `cross_entropy`) or probabilities `[B, K]`.
    """
    steps, classes = logits.shape[0], logits.shape[-1]
    if target.dim() == 2 and not target.is_floating_point():
        _check_frames(logits, target)
        wanted = F.one_hot(target.T.repeat_interleave(steps // target.shape[1], 0), classes)
    else:
        _check(logits, target)
        wanted = target if target.is_floating_point() else F.one_hot(target, classes)
    return F.binary_cross_entropy_with_logits(logits, wanted.to(logits.dtype).expand_as(logits))


def _check_frames(logits: Tensor, target: Tensor) -> None:
    steps, frames = logits.shape[0], target.shape[1]
    if logits.dim() != 3 or not steps or not frames or logits.shape[1] != target.shape[0] or steps % frames:
        raise ShapeError(
            f"labels of every frame [B, F] need logits [T, B, K] with T a multiple of F, got {tuple(target.shape)} and "
            f"{tuple(logits.shape)}"
        )


def _each_frame(logits: Tensor, target: Tensor, label_smoothing: float) -> Tensor:
    _check_frames(logits, target)
    every = target.T.repeat_interleave(logits.shape[0] // target.shape[1], 0)
    return F.cross_entropy(logits.flatten(0, 1), every.flatten(), label_smoothing=label_smoothing)


def hits(logits: Tensor, target: Tensor, readout: Readout = "mean") -> Tensor:
    """How many samples `logits` `[T, B, K]` decide right: by their readout over time, or, for labels of every frame,
    the share of the steps that are right."""
    if target.dim() == 2 and not target.is_floating_point():
        every = target.T.repeat_interleave(logits.shape[0] // target.shape[1], 0)
        return (logits.argmax(-1) == every).float().mean(0).sum()
    wanted = target.argmax(1) if target.is_floating_point() else target
    return (read_out(logits, readout).argmax(-1) == wanted).sum()


def spike_mse(votes: Tensor, target: Tensor, per_step: bool = True) -> Tensor:
    """Mean squared error of votes `[T, B, K]` in [0, 1] from the one-hot labels `[B]`; a scalar.

    SpikePoint (Ren et al., ICLR 2024): at every step, or of the mean over time when not `per_step`. The two differ by
    the mean variance of the votes over time.
    """
    _check(votes, target)
    wanted = target if target.is_floating_point() else F.one_hot(target, votes.shape[-1]).to(votes.dtype)
    given = votes if per_step else votes.mean(0, keepdim=True)
    return (given - wanted).square().mean()


def recipe_loss(train: TrainSection, logits: Tensor, target: Tensor) -> Tensor:
    """The loss that a recipe asks for."""
    if train.loss == "binary":
        return binary(logits, target)
    if train.loss in ("spike_mse", "rate_mse"):
        return spike_mse(logits, target, per_step=train.loss == "spike_mse")
    if train.loss == "tet":
        return tet(logits, target, train.tet_lambda, train.tet_target, train.label_smoothing)
    return cross_entropy(logits, target, train.label_smoothing, train.readout)


def _check(logits: Tensor, target: Tensor) -> None:
    if logits.dim() != 3 or logits.shape[0] == 0:
        raise ShapeError(f"logits must be [T, B, K] with at least one step, got {tuple(logits.shape)}")
    expected = tuple(logits.shape[1:]) if target.is_floating_point() else tuple(logits.shape[1:2])
    if tuple(target.shape) != expected:
        raise ShapeError(
            f"target must be labels [{logits.shape[1]}] or probabilities {tuple(logits.shape[1:])} for logits of shape "
            f"{tuple(logits.shape)}, got {tuple(target.shape)} of {target.dtype}"
        )
