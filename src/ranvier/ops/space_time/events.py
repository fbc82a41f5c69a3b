"""The same sums event by event: work is events times synapses, whatever the size of the kernel was."""

from __future__ import annotations

import torch
from torch import Tensor

from ranvier.errors import ArgumentError, ShapeError
from ranvier.ops.backend import use_kernels
from ranvier.ops.space_time.table import SpaceTimeSynapses


def scatter_events(x: Tensor, table: SpaceTimeSynapses, pending: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Every event reaches the targets of its synapses after their delays.

    Args:
        x: `[T, B, P, H, W]`; what is not 0 is an event, and its value a factor.
        pending: `[K − 1, B, C, H, W]`, what earlier events still deliver from the first step on; None for nothing.

    Returns `y` `[T, B, C, H, W]`, and what is pending after it. Not differentiable.
    """
    targets, polarities, taps, _, _ = table.shape
    if x.dim() != 5 or x.shape[2] != polarities:
        raise ShapeError(f"x must be [T, B, {polarities}, H, W], got shape {tuple(x.shape)}")
    steps, batch, _, height, width = x.shape
    x = x.detach().to(table.weight.dtype)
    future = x.new_zeros((steps + taps - 1, batch, targets, height, width))
    if pending is not None:
        if pending.shape != future[: taps - 1].shape:
            raise ShapeError(f"pending must be {tuple(future[: taps - 1].shape)}, got {tuple(pending.shape)}")
        future[: taps - 1] = pending
    if x.device.type == "cpu" and use_kernels("cpu") and x.dtype in (torch.float32, torch.float64):
        from ranvier.ops.space_time.numba_events import scatter

        tensors = (table.ptr, table.target, table.delay, table.rows, table.columns, table.weight, future)
        scatter(x.contiguous().numpy(), *[tensor.numpy() for tensor in tensors])
    else:
        _scatter_reference(x, table, future)
    return future[:steps], future[steps:].clone()


def _scatter_reference(x: Tensor, table: SpaceTimeSynapses, future: Tensor) -> None:
    """One synapse after the other: the whole movie, moved and weighted, is added to its target."""
    steps, _, polarities, height, width = x.shape
    for p in range(polarities):
        for s in range(int(table.ptr[p]), int(table.ptr[p + 1])):
            c, d, i, j = (int(a[s]) for a in (table.target, table.delay, table.rows, table.columns))
            if abs(i) >= height or abs(j) >= width:
                continue
            source = x[:, :, p, max(0, -i) : height - max(0, i), max(0, -j) : width - max(0, j)]
            goal = future[d : d + steps, :, c, max(0, i) : height - max(0, -i), max(0, j) : width - max(0, -j)]
            goal += table.weight[s] * source


def deliveries(
    t: Tensor, place: Tensor, table: SpaceTimeSynapses, size: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The weighted stream that the neurons see, in the order of time: `(t_r + δ_s, address, w_s)` of every pair of an
    event r and a synapse s that it reaches (Grimaldi and Perrinet 2023, section 2).

    Args:
        t: `[N]` times of the events, whole or real numbers, never decreasing.
        place: int `[N, 3]`: polarity, row, column.
        size: `(height, width)`.

    Returns times `[M]` (sorted; of equal ones, earlier events first), int64 addresses `[M, 3]` (target, row, column)
    and weights `[M]`.
    """
    if t.dim() != 1 or place.shape != (len(t), 3):
        raise ShapeError(f"events need t [N] and place [N, 3], got {tuple(t.shape)} and {tuple(place.shape)}")
    if len(t) and bool((t[1:] < t[:-1]).any()):
        raise ArgumentError("t must be in the order of time")
    if len(t) and (bool(t[0] < 0) or not bool(t.isfinite().all())):
        raise ArgumentError("t must be finite and not negative")
    polarity, row, column = place.long().unbind(1)
    if len(t) and not bool(((polarity >= 0) & (polarity < table.shape[1])).all()):
        raise ArgumentError(f"polarities must lie in 0 .. {table.shape[1] - 1}")
    fan = table.fan_out[polarity]
    event = torch.repeat_interleave(torch.arange(len(t)), fan)
    synapse = torch.arange(int(fan.sum())) - (fan.cumsum(0) - fan)[event] + table.ptr[polarity[event]]
    rows = row[event] + table.rows[synapse]
    columns = column[event] + table.columns[synapse]
    inside = (rows >= 0) & (rows < size[0]) & (columns >= 0) & (columns < size[1])
    event, synapse = event[inside], synapse[inside]
    when = t[event] + table.delay[synapse]
    order = torch.sort(when, stable=True).indices
    address = torch.stack([table.target[synapse].long(), rows[inside], columns[inside]], 1)
    return when[order], address[order], table.weight[synapse][order]


def operations(x: Tensor, table: SpaceTimeSynapses) -> int:
    """Synaptic operations of `x` `[T, B, P, H, W]`: for every event, the synapses whose target lies on the sensor and
    whose delivery is within the T steps."""
    steps, _, polarities, height, width = x.shape
    there = x != 0
    total = 0
    for p in range(polarities):
        # counts[t, row, column]: events in the first t frames, rows and columns, so that a box is eight look-ups
        counts = torch.zeros(steps + 1, height + 1, width + 1, dtype=torch.int64)
        counts[1:, 1:, 1:] = there[:, :, p].sum(1).cumsum(0).cumsum(1).cumsum(2)
        part = slice(int(table.ptr[p]), int(table.ptr[p + 1]))
        last = steps - table.delay[part].long().clamp(max=steps)
        i, j = table.rows[part].long(), table.columns[part].long()
        top, bottom = (-i).clamp(0, height), (height - i).clamp(0, height)
        left, right = (-j).clamp(0, width), (width - j).clamp(0, width)
        box = counts[last, bottom, right] - counts[last, top, right] - counts[last, bottom, left]
        total += int((box + counts[last, top, left]).sum())
    return total
