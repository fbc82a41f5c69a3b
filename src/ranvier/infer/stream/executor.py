"""What runs the net one step at a time: the compiled engine, or PyTorch with carried state."""

from __future__ import annotations

from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from ranvier.errors import ArgumentError
from ranvier.infer.engine import NotCompilableError
from ranvier.infer.engine import compile as compile_engine
from ranvier.state import Memory, carry

Kind = Literal["auto", "event", "torch"]
Output = NDArray[np.floating[Any]]


class Executor(Protocol):
    """One sample, one step at a time; `ranvier.infer.Engine` is one."""

    def step(self, x_t: ArrayLike) -> Output:
        """One step's input, without time and batch, to its output."""
        ...

    def reset(self) -> None:
        """Begin again from rest."""
        ...


class TorchExecutor:
    """The net itself, with its state carried from step to step; in eval mode, without gradients."""

    def __init__(self, model: nn.Module) -> None:
        for name, module in model.named_modules():
            if getattr(module, "streams", True) is False:
                raise ArgumentError(f"model: {name or type(module).__name__} looks at all steps at once: no stream")
        self.model = model.eval()
        parameter = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(()))
        self._like = parameter
        self._memory = Memory()

    @torch.no_grad()
    def step(self, x_t: ArrayLike) -> Output:
        x = torch.as_tensor(np.asarray(x_t)).to(self._like.device, self._like.dtype)
        with carry(self.model, self._memory):
            return self.model(x[None, None])[0, 0].cpu().numpy()

    def reset(self) -> None:
        self._memory.reset()


def make_executor(model: nn.Module, example: Tensor, engine: Kind = "auto") -> tuple[Executor, str]:
    """An executor of `model` and its kind.

    Args:
        example: a sequence `[T, B, ...]` as active as what will come: the engine chooses by it.
        engine: "event", the compiled engine; "torch"; or "auto", the engine where the net can be compiled.
    """
    if engine not in ("auto", "event", "torch"):
        raise ArgumentError(f"engine must be 'auto', 'event' or 'torch', got {engine!r}")
    if engine != "torch":
        try:
            return compile_engine(model.eval(), example), "event"
        except NotCompilableError:
            if engine == "event":
                raise
    return TorchExecutor(model), "torch"
