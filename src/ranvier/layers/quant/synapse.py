"""Convolutions and linear layers whose weights are quantised in every pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ranvier.layers.quant.lsq import LSQ


class QuantSynapse(nn.Module):
    """What the quantised layers share: `quantizer`, and the weight that they multiply with.

    In evaluation without gradients the quantised weight is kept until the weight or a step changes.
    """

    weight: Any  # the parameter of the convolution or linear layer
    quantizer: LSQ
    _kept: tuple[tuple[Any, ...], Tensor] | None = None

    def effective_weight(self) -> Tensor:
        """The quantised weight."""
        if self.training or torch.is_grad_enabled() or torch.compiler.is_compiling():
            return self.quantizer(self.weight)
        alpha = self.quantizer.alpha
        key = tuple((t.data_ptr(), t._version, t.dtype) for t in (self.weight, *(() if alpha is None else (alpha,))))
        if self._kept is None or self._kept[0] != key:
            self._kept = (key, self.quantizer(self.weight))
        return self._kept[1]

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        self._kept = None
        return super()._apply(fn, recurse)

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        state.pop("_kept", None)
        return state


class QuantConv1d(QuantSynapse, nn.Conv1d):  # pyright: ignore[reportIncompatibleVariableOverride]
    """`nn.Conv1d` with weights of `bits` bits (`LSQ`); other arguments as there."""

    def __init__(self, *args: Any, bits: int = 4, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.quantizer = LSQ(bits, self.weight)

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input, self.effective_weight(), self.bias)


class QuantConv2d(QuantSynapse, nn.Conv2d):  # pyright: ignore[reportIncompatibleVariableOverride]
    """`nn.Conv2d` with weights of `bits` bits (`LSQ`); other arguments as there."""

    def __init__(self, *args: Any, bits: int = 4, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.quantizer = LSQ(bits, self.weight)

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input, self.effective_weight(), self.bias)


class QuantLinear(QuantSynapse, nn.Linear):  # pyright: ignore[reportIncompatibleVariableOverride]
    """`nn.Linear` with weights of `bits` bits (`LSQ`); other arguments as there."""

    def __init__(self, *args: Any, bits: int = 4, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.quantizer = LSQ(bits, self.weight)

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.effective_weight(), self.bias)
