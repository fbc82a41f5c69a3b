"""The engine: one sample, one step at a time, state between steps."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ranvier.errors import ArgumentError, ShapeError
from ranvier.infer.engine.codes import FIELDS
from ranvier.infer.engine.lower import Lowering
from ranvier.infer.engine.program import BLOCK, Op
from ranvier.infer.engine.report import Report

Array = NDArray[np.floating[Any]]


class Engine:
    """A compiled net for one sample (batch 1). Numpy arrays in and out; made by `compile`.

    Copies, also by `copy.deepcopy` in the middle of a stream, go their own ways. One engine serves one thread.

    Attributes:
        input_shape: shape of one step's input, without time and batch, such as `(2, 34, 34)`.
        output_shape: shape of one step's output, such as `(10,)`.
        dtype: of inputs and outputs, float32 or float64.
    """

    def __init__(self, lowering: Lowering) -> None:
        from ranvier.infer.engine import numba_driver

        trace, program = lowering.trace, lowering.program
        self.input_shape: tuple[int, ...] = trace.input.shape[2:]
        self.output_shape: tuple[int, ...] = trace.output.shape[2:]
        self.dtype = program.dtype
        self.program = program
        self.notes: dict[str, Any] = {}
        self._output = (
            lowering.buffer(trace.output).at + lowering.positions(trace.output).ravel()
        ).astype(np.int64)  # fmt: skip
        self._arenas: tuple[Any, ...] = tuple(
            arena.build() for arena in (program.F, program.Q, program.I, program.A, program.U)
        )
        self._entry = lowering.entry.at
        self._look(numba_driver)
        self.assemble()
        self.reset()

    def _look(self, driver: Any) -> None:
        """Views of the arenas, and what else is not copied with the engine."""
        self._driver = driver
        flags = np.zeros(BLOCK + 8, np.uint8)
        self._arenas = (*self._arenas[:5], flags, flags.view(np.uint64))
        self._flat: Any = self._arenas[0]
        size = int(np.prod(self.input_shape))
        self._input = self._flat[self._entry : self._entry + size].reshape(self.input_shape)
        first, size = (int(self._output[0]), self._output.size) if self._output.size else (0, 0)
        ordered = bool((np.diff(self._output) == 1).all())
        self._result = self._flat[first : first + size].reshape(self.output_shape) if ordered else None

    def __getstate__(self) -> dict[str, Any]:
        left_out = ("_driver", "_flat", "_input", "_result")
        state = {k: v for k, v in self.__dict__.items() if k not in left_out}
        return {**state, "_arenas": self._arenas[:5]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        from ranvier.infer.engine import numba_driver

        self.__dict__.update(state)
        self._look(numba_driver)

    def assemble(self) -> None:
        """Take over the choices of the instructions (`program.ops[i].choice`)."""
        self.table, self.reals, self.ops = self.program.assemble()
        # Events can be handed over where the input goes straight into copies and lists.
        self._copied = self._direct()

    def _direct(self) -> tuple[int, int, int, Any] | None:
        """(first instruction after the input, its place, its list, where every element goes), if only one copy and one
        list read the input."""
        place, at, table = self._entry, 0, np.arange(int(np.prod(self.input_shape)))
        if len(self.ops) < 2:
            return None
        row: dict[str, Any] = self.ops[0].variants[self.ops[0].choice]
        if row["code"] == "copy" and row["x"] == place and row["n"] == table.size:
            source = next(a for o, a in self.program.I.filled if o == row["map"])
            table = np.empty_like(table)
            table[source] = np.arange(table.size)
            place, at = row["y"], 1
        events: dict[str, Any] = self.ops[at].variants[self.ops[at].choice] if at < len(self.ops) else {"code": ""}
        if events["code"] != "events" or events["x"] != place:
            return None
        reading = [op for op in self.ops if op.source is not None and op.source.at == self._entry]
        return (at + 1, place, events["L"], table) if at == 0 or len(reading) == 1 else None

    def step(self, x_t: ArrayLike, out: Array | None = None) -> Array:
        """One step: input of `input_shape` in, output of `output_shape` out.

        Args:
            x_t: an array; float of the engine's `dtype` is not copied on the way.
            out: where to write the output; without it every call makes a new small array.

        Raises `ShapeError` for another shape. NaN passes through, as it does through the net.
        """
        x = x_t if isinstance(x_t, np.ndarray) else np.asarray(x_t)
        if x.shape != self.input_shape:
            raise ShapeError(f"x_t must have shape {self.input_shape} (one step, one sample), got {x.shape}")
        self._input[...] = x
        self._driver.drive(*self._arenas, self.table, self.reals, 0, len(self.ops))
        return self._taken(out)

    def step_events(self, indices: ArrayLike, values: ArrayLike | None = None, out: Array | None = None) -> Array:
        """One step whose input is zero but at `indices`: the flat positions in `input_shape` that receive a spike.

        Args:
            indices: whole numbers; a position that comes twice counts twice.
            values: size of each spike, 1 by default.
            out: as in `step`.

        Work is proportional to the events; the input is not looked at as a whole.
        """
        where = np.ascontiguousarray(indices, dtype=np.int64)
        size = self._input.size
        if where.ndim != 1 or (where.size and (where.min() < 0 or where.max() >= size)):
            raise ArgumentError(f"indices must be a list of positions from 0 to {size - 1}")
        if values is not None or self._copied is None:
            self._input[...] = 0
            sizes = np.ones(where.shape) if values is None else np.asarray(values)
            if sizes.shape != where.shape:
                raise ShapeError(f"values must be [{where.size}] like indices, got {sizes.shape}")
            np.add.at(self._input.reshape(-1), where, sizes.astype(self.dtype))
            self._driver.drive(*self._arenas, self.table, self.reals, 0, len(self.ops))
            return self._taken(out)
        first, place, listed, table = self._copied
        self._driver.put_events(self._flat, self._arenas[2], place, listed, table, where)
        self._driver.drive(*self._arenas, self.table, self.reals, first, len(self.ops))
        return self._taken(out)

    def _taken(self, out: Array | None) -> Array:
        source = self._flat[self._output].reshape(self.output_shape) if self._result is None else self._result
        if out is None:
            return source.copy()
        out[...] = source
        return out

    def run(self, x: ArrayLike) -> Array:
        """All steps of a sequence `[T, *input_shape]`, from the state as it is: `[T, *output_shape]`.

        Between steps nothing of Python runs. Raises `ShapeError` for another shape or T = 0.
        """
        steps = np.asarray(x)
        if steps.ndim == 0 or steps.shape[1:] != self.input_shape or not len(steps):
            raise ShapeError(f"x must be a sequence [T, {', '.join(map(str, self.input_shape))}], got {steps.shape}")
        given = np.ascontiguousarray(steps, dtype=self.dtype).reshape(len(steps), -1)
        made = np.empty((len(steps), self._output.size), self.dtype)
        self._driver.drive_steps(*self._arenas, self.table, self.reals, given, made, self._entry, self._output)
        return made.reshape(len(steps), *self.output_shape)

    def reset(self) -> None:
        """Forget the past: the next step is the first of a new sequence."""
        F, lists, program = self._flat, self._arenas[2], self.program
        for at, size in program.zeroed:
            F[at : at + size] = 0
        for at, values in program.state:
            F[at : at + values.size] = values
        for at in (*program.lists, *program.positions):
            lists[at] = 0
        for op in program.ops:  # pools remember which of their outputs are not zero
            if op.code == "max_event" and op.made is not None:
                F[op.made.at : op.made.at + op.made.size] = 0
        if self._copied is not None:
            place = self._copied[1]
            F[place : place + self._input.size] = 0

    @property
    def nbytes(self) -> int:
        """Bytes of weights, tables, activations and state."""
        return sum(arena.nbytes for arena in self._arenas[:5])

    def events(self, op: Op) -> int | None:
        """Events that `op` read in the last step; None where it reads no list."""
        row = op.variants[op.choice]
        listed = row.get("L") if "L" in FIELDS[op.code] and op.code not in ("lif", "int_lif", "events") else None
        return int(self._arenas[2][listed]) if listed else None

    def report(self) -> Report:
        """What was compiled: layer by layer the measured activity, the choice between event-driven and dense and the
        times that it rests on; the comparison with the net. Prints as a table; `to_dict` gives plain data."""
        return Report.of(self)
