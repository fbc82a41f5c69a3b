"""What a measurement is run on: one batch or several, and how many samples and steps they hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError, ShapeError
from ranvier.packing import Packed

Batches = Tensor | Iterable[Tensor | tuple[Tensor, ...] | list[Tensor]]
PackedBatches = Packed | Iterable[Packed]


@dataclass(frozen=True)
class Extent:
    """Samples of one batch, and time steps of the pass."""

    samples: int
    T: int


def each(x: Batches) -> Iterator[Tensor]:
    """The input tensors of `x`: itself, or the (first of the) tensors of every batch.

    Raises `ArgumentError` for batches that are not floating-point tensors, are empty, or hold NaN or infinities.
    """
    for batch in each_or_packed(x):
        if isinstance(batch, Packed):
            raise ArgumentError(
                "packed batches cannot be measured here; give a padded tensor or sequences of one length"
            )
        yield batch


def each_or_packed(x: Batches | PackedBatches) -> Iterator[Tensor | Packed]:
    """`each`, which lets packed batches pass too."""
    found = False
    for batch in [x] if isinstance(x, Tensor | Packed) else x:
        given = batch[0] if isinstance(batch, tuple | list) and batch else batch
        tensor = given.data if isinstance(given, Packed) else given
        if not isinstance(tensor, Tensor):
            raise ArgumentError(f"x must be a tensor or an iterable of batches, got a batch of {type(tensor).__name__}")
        if tensor.numel() == 0 or tensor.dim() < 1:
            raise ShapeError(f"x must hold at least one sample, got a batch of shape {tuple(tensor.shape)}")
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ArgumentError("x must be finite, got NaN or infinity")
        found = True
        yield given if isinstance(given, Packed) else tensor
    if not found:
        raise ArgumentError("x must hold at least one batch, got none")


def extent(
    model: nn.Module, x: Tensor | Packed, time_first: bool | None, samples: int | None, T: int | None
) -> Extent:  # fmt: skip
    """Samples and steps of the batch `x`.

    `[T, B, ...]` when `time_first`, or when it is None and `x` has five axes (or the model's `has_time` says so); else
    `[B, ...]`, with `model.T` steps.
    Every step of a packed batch is a sample of one step.
    """
    for name, value in (("samples", samples), ("T", T)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise ArgumentError(f"{name} must be a positive integer, got {value!r}")
    if isinstance(x, Packed):
        return Extent(x.packing.total, 1)
    if time_first is None:
        time_first = model.has_time(x) if hasattr(model, "has_time") else x.dim() == 5  # pyright: ignore[reportCallIssue]
    if time_first and x.dim() < 2:
        raise ShapeError(f"x must be [T, B, ...] with time_first, got shape {tuple(x.shape)}")
    steps = getattr(model, "T", 1)
    own = x.shape[0] if time_first else steps if isinstance(steps, int) and steps > 0 else 1
    return Extent(samples or x.shape[1 if time_first else 0], T or own)
