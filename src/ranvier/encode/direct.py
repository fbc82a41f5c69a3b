"""Direct encoding: the image itself at every step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from ranvier.encode.encoder import ENCODERS, Encoder
from ranvier.errors import ArgumentError, ShapeError


@ENCODERS.register("direct")
class Direct(Encoder):
    """`S_t = (x − mean) / std`, repeated without copying: the result is an expanded view, so do not write into it.

    `mean` and `std` have one value a channel (axis 1 of `x`), or one for all; without them `x` passes as it is.
    """

    name: ClassVar[str] = "direct"
    formula: ClassVar[str] = "S_t = (x − mean) / std"
    sparse: ClassVar[bool] = False
    mean: Tensor | None
    std: Tensor | None

    def __init__(self, mean: float | Sequence[float] | None = None, std: float | Sequence[float] | None = None) -> None:
        super().__init__()
        means, stds = _channel_values("mean", mean), _channel_values("std", std)
        if stds and min(stds) <= 0:
            raise ArgumentError(f"std must be positive, got {std!r}")
        if means and stds and len(means) != len(stds):
            raise ArgumentError(f"mean and std must have as many values, got {len(means)} and {len(stds)}")
        self._config = {"mean": means, "std": stds}
        # Not in the state dict: they belong to the data, and checkpoints of others do not have them.
        self.register_buffer("mean", torch.tensor(means) if means else None, persistent=False)
        self.register_buffer("std", torch.tensor(stds) if stds else None, persistent=False)

    def encode(self, x: Tensor, T: int) -> Tensor:
        if self.mean is not None:
            x = x - self._per_channel(self.mean, x)
        if self.std is not None:
            x = x / self._per_channel(self.std, x)
        return x.expand(T, *x.shape)

    def _per_channel(self, values: Tensor, x: Tensor) -> Tensor:
        values = values.to(x.dtype)
        if len(values) == 1:
            return values
        if x.ndim < 2 or x.shape[1] != len(values):
            raise ShapeError(
                f"encoder 'direct' has {len(values)} channels of mean and std, but x is {tuple(x.shape)} ([B, C, ...])"
            )
        return values.view(-1, *([1] * (x.ndim - 2)))

    def config(self) -> dict[str, Any]:
        return {"type": self.name, **{key: value for key, value in self._config.items() if value is not None}}


def _channel_values(argument: str, given: float | Sequence[float] | None) -> list[float] | None:
    if given is None:
        return None
    try:
        values = [float(given)] if isinstance(given, int | float) else [float(value) for value in given]
    except (TypeError, ValueError):
        values = []
    if not values or not all(math.isfinite(value) for value in values):
        raise ArgumentError(f"{argument} must be a finite number or one for each channel, got {given!r}")
    return values
