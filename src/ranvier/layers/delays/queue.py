"""Event-driven delivery: spikes go in with their times, and come out at their targets when they are due."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ranvier.errors import DataError, ShapeError
from ranvier.layers.delays.table import SynapseTable


class EventQueue:
    """Deliveries of a `SynapseTable` in the order of their times, which may be whole steps or real.

    `push` spikes in any portions (each portion sorted, none before what has been delivered), `pop` what is due. Memory
    holds only what is on its way. Work is spikes times fan-out; `operations` counts it.
    """

    def __init__(self, table: SynapseTable) -> None:
        order = torch.argsort(table.pre, stable=True)
        self.table = table
        self._post, self._delay, self._weight = (t[order].numpy() for t in (table.post, table.delay, table.weight))
        self._ptr = np.zeros(table.inputs + 1, np.int64)
        self._ptr[1:] = np.cumsum(np.bincount(table.pre.numpy(), minlength=table.inputs))
        self.operations = 0
        self.now = float("-inf")
        self._forget()

    def _forget(self) -> None:
        self._time: NDArray[Any] = np.zeros(0, np.float64)
        self._to: NDArray[np.int64] = np.zeros(0, np.int64)
        self._value: NDArray[Any] = np.zeros(0, self._weight.dtype)

    def __len__(self) -> int:
        return len(self._time)

    def push(self, times: Any, neurons: Any, values: Any = None) -> None:
        """Spikes of input `neurons` at `times` (sorted, ≥ 0), of sizes `values` (1 by default); none is fine.

        Raises `DataError` for times that are negative, not finite, out of order or in the past, and for neurons that
        do not exist.
        """
        t, pre = np.asarray(times, np.float64), np.asarray(neurons)
        if t.ndim != 1 or pre.shape != t.shape:
            raise ShapeError(f"times and neurons must be [N] of one length, got {t.shape} and {pre.shape}")
        if not len(t):
            return
        if not np.isfinite(t).all() or t[0] < 0 or (t < 0).any():
            raise DataError(f"spike times must be finite and >= 0, got {t.min() if np.isfinite(t).all() else 'NaN'}")
        behind = np.flatnonzero(np.diff(t) < 0)
        if len(behind):
            i = int(behind[0]) + 1
            raise DataError(f"spike times must not decrease: spike {i} is at {t[i]:g}, the one before at {t[i - 1]:g}")
        if t[0] < self.now:
            raise DataError(f"a spike at {t[0]:g} comes too late: everything up to {self.now:g} has been delivered")
        if not np.issubdtype(pre.dtype, np.integer):
            raise DataError(f"neurons must be integers, got {pre.dtype}")
        if pre.min() < 0 or pre.max() >= self.table.inputs:
            raise DataError(f"neurons must lie in 0 .. {self.table.inputs - 1}, got {pre.min()} .. {pre.max()}")
        fan = self._ptr[pre + 1] - self._ptr[pre]
        synapse = np.repeat(self._ptr[pre] - np.cumsum(fan) + fan, fan) + np.arange(int(fan.sum()))
        due = np.repeat(t, fan) + self._delay[synapse]
        value = self._weight[synapse]
        if values is not None:
            sizes = np.asarray(values, value.dtype)
            if sizes.shape != t.shape:
                raise ShapeError(f"values must be [{len(t)}] like times, got {sizes.shape}")
            value = value * np.repeat(sizes, fan)
        self.operations += int(fan.sum())
        due = np.concatenate([self._time, due])
        order = np.argsort(due, kind="stable")
        self._time = due[order]
        self._to = np.concatenate([self._to, self._post[synapse]])[order]
        self._value = np.concatenate([self._value, value])[order]

    def pop(self, before: float) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[Any]]:
        """Times, targets and values of all deliveries due before the time `before`, in order; they leave the queue."""
        end = int(np.searchsorted(self._time, before, side="left"))
        out = self._time[:end], self._to[:end], self._value[:end]
        self._time, self._to, self._value = self._time[end:], self._to[end:], self._value[end:]
        self.now = max(self.now, before)
        return out

    def run(self, x: Tensor) -> Tensor:
        """Push the non-zero entries of `x` `[T, I]` (one sample, whole steps) and add up what is due in each of its
        steps: `[T, O]`, equal to the dense layer. Consecutive calls go on in time."""
        if x.dim() != 2 or x.shape[1] != self.table.inputs:
            raise ShapeError(f"x must be [T, {self.table.inputs}], got shape {tuple(x.shape)}")
        start = 0 if self.now == float("-inf") else int(self.now)
        step, neuron = x.nonzero(as_tuple=True)
        self.push(step.numpy() + start, neuron.numpy(), x[step, neuron].numpy())
        due, to, value = self.pop(start + x.shape[0])
        y = np.zeros((x.shape[0], self.table.outputs), self._weight.dtype)
        np.add.at(y, (due.astype(np.int64) - start, to), value)
        return torch.from_numpy(y)
