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
    if pending is not None and pending.shape != (taps - 1, batch, targets, height, width):
        raise ShapeError(
            f"pending must be {(taps - 1, batch, targets, height, width)}, got {tuple(pending.shape)}"
        )  # fmt: skip
    if x.device.type == "cpu" and use_kernels("cpu") and x.dtype in (torch.float32, torch.float64):
        future = _scatter_kernel(x, table)
    else:
        future = x.new_zeros((steps + taps - 1, batch, targets, height, width))
        _scatter_reference(x, table, future)
    if pending is not None:
        future[: taps - 1] += pending
    return future[:steps], future[steps:].clone()


def _scatter_kernel(x: Tensor, table: SpaceTimeSynapses) -> Tensor:
    """The future `[T + K − 1, B, C, H, W]`, as a view of padded planes that every synapse stays inside."""
    from ranvier.ops.space_time.numba_events import scatter

    steps, batch, _, height, width = x.shape
    targets, _, taps, rows, columns = table.shape
    top, left = rows // 2, columns // 2
    future = x.new_zeros((steps + taps - 1, batch, targets, height + 2 * top, width + 2 * left))
    step, sample, plane, line, _ = future.stride()
    offset = table.delay.long() * step + table.target.long() * plane + (table.rows.long() + top) * line
    offset += table.columns + left
    weight = table.weight
    for p in range(len(table.ptr) - 1):  # in the order of memory
        part = slice(int(table.ptr[p]), int(table.ptr[p + 1]))
        order = offset[part].argsort()
        offset[part], weight = offset[part][order], _reordered(weight, part, order)
    scatter(
        x.contiguous().numpy(), table.ptr.numpy(), offset.numpy(), weight.contiguous().numpy(),
        future.view(-1).numpy(), step, sample, line,
    )  # fmt: skip
    return future[..., top : top + height, left : left + width]


def _reordered(weight: Tensor, part: slice, order: Tensor) -> Tensor:
    weight = weight.clone()
    weight[part] = weight[part][order]
    return weight


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
