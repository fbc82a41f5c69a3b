"""Stateless layers do not see time: they work on `[T·B, ...]`, T outermost, so that steps never mix with samples."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn


def over_time(module: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply a stateless `module` to every step of `x` (`[T, B, ...]`) at once; batch statistics are shared over T."""
    return module(x.flatten(0, 1)).unflatten(0, x.shape[:2])


class TimeWise(nn.Module):
    """A stateless module that works on `[B, ...]`, applied to every step of `[T, B, ...]` at once."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        return over_time(self.module, x)
