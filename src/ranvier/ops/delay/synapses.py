"""Sums over synapses at whole delays, one multiplication each: scattered by spikes, or gathered from a history."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ranvier.ops.backend import use_kernels
from ranvier.ops.delay.scratch import empty
from ranvier.ops.delay.threads import in_slices


@dataclass(frozen=True)
class Synapses:
    """Synapses sorted by input (`by_input`) or by output.

    Attributes:
        ptr: int64 `[N + 1]`: the synapses of neuron n are entries `ptr[n] .. ptr[n + 1] − 1`.
        other: int32 `[S]`, the neuron at the other end.
        steps: int32 `[S]`, the delay.
        strength: `[S]`, the weight.
        outputs, max_delay: of the layer.
    """

    ptr: Tensor
    other: Tensor
    steps: Tensor
    strength: Tensor
    outputs: int
    max_delay: int
    by_input: bool


def tabulated(weight: Tensor, delay: Tensor, max_delay: int, by_input: bool, skip_zero: bool = True) -> Synapses:
    """The table of `weight` and whole `delay` (floating or integer), both `[O, I, C]`."""
    outputs, inputs, _ = weight.shape
    steps = delay.detach().to(torch.int32).expand(weight.shape)
    weight = weight.detach()
    if not by_input:
        weight, steps = weight.transpose(0, 1), steps.transpose(0, 1)
    neurons = inputs if by_input else outputs
    if weight.device.type == "cpu" and use_kernels("cpu") and weight.dtype in (torch.float32, torch.float64):
        from ranvier.ops.delay.numba_synapses import tabulate

        ptr = torch.empty(neurons + 1, dtype=torch.int64)
        other, late = torch.empty(weight.numel(), dtype=torch.int32), torch.empty(weight.numel(), dtype=torch.int32)
        strength = torch.empty(weight.numel(), dtype=weight.dtype)
        arrays = [t.numpy() for t in (ptr, other, late, strength)]
        n = int(tabulate(weight.contiguous().numpy(), steps.contiguous().numpy(), skip_zero, *arrays))
        return Synapses(ptr, other[:n], late[:n], strength[:n], outputs, max_delay, by_input)
    w, d = weight.transpose(0, 1), steps.transpose(0, 1)  # [neuron, other, C]
    there = (w != 0) if skip_zero else torch.ones_like(w, dtype=torch.bool)
    ptr = torch.cat([torch.zeros(1, dtype=torch.int64, device=w.device), there.flatten(1).sum(1).cumsum(0)])
    ends = torch.arange(w.shape[1], dtype=torch.int32, device=w.device)[None, :, None].expand(w.shape)
    return Synapses(ptr, ends[there], d[there], w[there], outputs, max_delay, by_input)


def scatter(x: Tensor, pending: Tensor | None, table: Synapses) -> tuple[Tensor, Tensor]:
    """Every non-zero input reaches its synapses' outputs at its step plus their delays.

    Args:
        x: `[T, B, I]`.
        pending: `[B, D, O]`, what earlier inputs still deliver from the first step on; None for nothing.
        table: sorted by input.

    Returns `y` `[T, B, O]` and what is pending after it. Work is spikes times fan-out. Not differentiable.
    """
    steps, batch, _ = x.shape
    reach = table.max_delay
    x, strength = x.detach(), table.strength
    if x.dtype != strength.dtype:
        x = x.to(strength.dtype)
    future = torch.zeros((steps + reach, batch, table.outputs), dtype=x.dtype, device=x.device)
    if pending is not None and reach:
        future[:reach] = pending.to(x.dtype).transpose(0, 1)
    if x.device.type == "cpu" and use_kernels("cpu") and x.dtype in (torch.float32, torch.float64):
        from ranvier.ops.delay import numba_synapses

        x = x.contiguous()
        arrays: list[Any] = [t.numpy() for t in (x, table.ptr, table.other, table.steps, strength, future)]
        kernel: Any = numba_synapses.scatter
        work = x.numel() * table.outputs // 8  # as if one input in eight was a spike
        in_slices(lambda lo, hi: kernel(*arrays, lo, hi), batch, work)
    else:
        _scatter_reference(x, table, future)
    return future[:steps], future[steps:].transpose(0, 1).contiguous()


def _scatter_reference(x: Tensor, table: Synapses, future: Tensor) -> None:
    pre = torch.repeat_interleave(torch.arange(len(table.ptr) - 1, device=x.device), table.ptr.diff())
    steps = x.shape[0]
    for d in range(table.max_delay + 1):
        late = table.steps == d
        if late.any():
            w = x.new_zeros((x.shape[2], table.outputs))
            w.index_put_((pre[late], table.other[late].long()), table.strength[late].to(x.dtype), accumulate=True)
            future[d : d + steps] += x @ w


def gather(x: Tensor, history: Tensor | None, table: Synapses) -> Tensor:
    """Every output reads each of its synapses' inputs at their delay.

    Args:
        x: `[T, B, I]`.
        history: `[D, B, I]`, the inputs before, oldest first; None for zeros.
        table: sorted by output.

    Returns `y` `[T, B, O]`. Work is synapses times steps, whatever the delays. Not differentiable.
    """
    steps, batch, inputs = x.shape
    reach, strength = table.max_delay, table.strength
    x = x.detach().to(strength.dtype)
    whole = empty((batch, inputs, reach + steps), x.dtype, x.device)
    whole[:, :, reach:] = x.permute(1, 2, 0)
    if reach:
        whole[:, :, :reach] = 0 if history is None else history.detach().permute(1, 2, 0)
    if x.device.type == "cpu" and use_kernels("cpu") and x.dtype in (torch.float32, torch.float64):
        from ranvier.ops.delay import numba_synapses

        y = empty((batch, table.outputs, steps), x.dtype)
        arrays: list[Any] = [t.numpy() for t in (whole, table.ptr, table.other, table.steps, strength, y)]
        kernel: Any = numba_synapses.gather
        work = len(strength) * steps * batch
        in_slices(lambda lo, hi: kernel(*arrays, lo, hi), batch, work)
        return y.permute(2, 0, 1)
    y = x.new_zeros((batch, table.outputs, steps))
    post = torch.repeat_interleave(torch.arange(table.outputs, device=x.device), table.ptr.diff())
    for d in table.steps.unique().tolist():
        late = table.steps == d
        w = x.new_zeros((table.outputs, inputs))
        w.index_put_((post[late], table.other[late].long()), strength[late].to(x.dtype), accumulate=True)
        y += w @ whole[:, :, reach - d : reach - d + steps]
    return y.permute(2, 0, 1)
