"""Stateless layers do not see time: they work on `[T·B, ...]`, T outermost, so that steps never mix with samples."""

from __future__ import annotations

from torch import Tensor, nn


def over_time(module: nn.Module, x: Tensor) -> Tensor:
    """Apply a stateless `module` to every step of `x` (`[T, B, ...]`) at once; batch statistics are shared over T."""
    return module(x.flatten(0, 1)).unflatten(0, x.shape[:2])
