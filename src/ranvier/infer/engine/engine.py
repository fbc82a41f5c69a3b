"""The engine: one sample, one step at a time, state between steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from ranvier.errors import ArgumentError, ShapeError
from ranvier.state import Memory, carry

Array = NDArray[np.floating[Any]]


class Engine:
    """A compiled net for one sample (batch 1). Numpy arrays in and out; made by `compile`.

    Attributes:
        input_shape: shape of one step's input, without time and batch, such as `(2, 34, 34)`.
        output_shape: shape of one step's output, such as `(10,)`.
        dtype: of inputs and outputs.
    """

    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __init__(self, model: nn.Module, example: Tensor) -> None:
        self._model, self._memory = model, Memory()
        self.input_shape = tuple(example.shape[2:])
        self.dtype = np.dtype(np.float64 if example.dtype == torch.float64 else np.float32)
        with torch.no_grad(), carry(model):
            self.output_shape = tuple(model(example[:1, :1]).shape[2:])

    def step(self, x_t: ArrayLike, out: Array | None = None) -> Array:
        """One step: input of `input_shape` in, output of `output_shape` out (written to `out` where one is given)."""
        x = np.ascontiguousarray(x_t, dtype=self.dtype)
        if x.shape != self.input_shape:
            raise ShapeError(f"x_t must have shape {self.input_shape}, got {x.shape}")
        with torch.no_grad(), carry(self._model, self._memory):
            y = self._model(torch.from_numpy(x)[None, None])[0, 0].numpy()
        if out is None:
            return y
        out[...] = y
        return out

    def step_events(self, indices: ArrayLike, values: ArrayLike | None = None, out: Array | None = None) -> Array:
        """One step whose input is zero but at `indices` (flat positions in `input_shape`, each once): `values` there,
        or ones."""
        x = np.zeros(self.input_shape, self.dtype)
        x.reshape(-1)[np.asarray(indices, np.int64)] = 1 if values is None else values
        return self.step(x, out)

    def run(self, x: ArrayLike) -> Array:
        """All steps of a sequence `[T, *input_shape]` from the state as it is: `[T, *output_shape]`."""
        steps = np.asarray(x, dtype=self.dtype)
        if steps.ndim == 0 or steps.shape[1:] != self.input_shape or not len(steps):
            raise ShapeError(f"x must be a sequence [T, {', '.join(map(str, self.input_shape))}], got {steps.shape}")
        return np.stack([self.step(x_t) for x_t in steps])

    def reset(self) -> None:
        """Forget the past: the next step is the first of a new sequence."""
        self._memory.reset()

    def report(self) -> dict[str, Any]:
        """What was compiled, as plain data: layers, their measured activity, what was chosen for each and why."""
        return {"input_shape": list(self.input_shape), "output_shape": list(self.output_shape), "layers": []}


def compile(model: nn.Module, example: Tensor) -> Engine:
    """`model` as an `Engine`. `example` is an input as the model takes it: `[T, B, ...]`, or images `[B, C, H, W]`."""
    if not isinstance(model, nn.Module) or not isinstance(example, Tensor):
        raise ArgumentError("compile takes a torch.nn.Module and a tensor as example")
    model = model.eval()
    sequence = getattr(model, "sequence", None)
    return Engine(model, sequence(example) if callable(sequence) else example)
