"""From per-step outputs `[T, B, K]` to one score a class: what a loss sees and what a decision is made on."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from ranvier.errors import ArgumentError

Readout = Literal["mean", "sum", "softmax_sum", "max", "last"]
READOUTS = ("mean", "sum", "softmax_sum", "max", "last")


def read_out(logits: Tensor, readout: Readout = "mean") -> Tensor:
    """Scores `[B, K]`: the mean or sum over time, the sum of every step's softmax, the largest or the last value.

    The sum of softmaxes lies in 0 .. T and is meant to meet a cross-entropy, which takes the softmax of it once more,
    as in Hammouamri et al., ICLR 2024.
    """
    if readout == "mean":
        return logits.mean(0)
    if readout == "sum":
        return logits.sum(0)
    if readout == "softmax_sum":
        return logits.softmax(-1).sum(0)
    if readout == "max":
        return logits.amax(0)
    if readout == "last":
        return logits[-1]
    raise ArgumentError(f"readout must be one of {', '.join(READOUTS)}; got {readout!r}")


def running(logits: Tensor, readout: Readout = "mean") -> Tensor:
    """Scores `[T, B, K]` after each step, whose largest entry decides there as that of `read_out` does in the end."""
    if readout in ("mean", "sum"):
        return logits.cumsum(0)
    if readout == "softmax_sum":
        return logits.softmax(-1).cumsum(0)
    if readout == "max":
        return logits.cummax(0).values
    if readout == "last":
        return logits
    raise ArgumentError(f"readout must be one of {', '.join(READOUTS)}; got {readout!r}")
