"""Controls of attention: nothing but the values, and queries and keys that do not learn."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from ranvier.errors import ArgumentError
from ranvier.layers.attention import SpikingAttention

Freeze = Literal["weights", "norm"]


class ValueOnly(SpikingAttention):
    """The branch without attention: `proj(V)`. What is left when the products of queries and keys are taken out."""

    names = ("v",)

    def mix(self, *projections: Tensor) -> Tensor:
        return projections[0]


def freeze_queries(attention: nn.Module, freeze: Freeze) -> None:
    """Leave queries and keys at their random start.

    "weights": their weights (and biases) do not train, but the scale and shift of their batch norms do, which is STEP's
    "random attention" (Shen et al., NeurIPS 2025); "norm": those neither, so that nothing in them is learned but the
    running statistics, which follow the data.
    """
    if freeze not in ("weights", "norm"):
        raise ArgumentError(f"freeze_qk must be 'weights', 'norm' or None, got {freeze!r}")
    frozen = [module for name in ("q", "k") if (module := getattr(attention, name, None)) is not None]
    if not frozen:
        raise ArgumentError(f"freeze_qk: {type(attention).__name__} has neither queries nor keys")
    for projection in frozen:
        for layer in projection.modules():
            is_norm = isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)
            if is_norm and freeze == "weights":
                continue
            for parameter in layer.parameters(recurse=False):
                parameter.requires_grad_(False)
