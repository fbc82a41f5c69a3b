"""Sums over synapses at whole delays, one multiplication each: scattered by spikes, or gathered from a history."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ranvier.ops.backend import use_kernels
from ranvier.ops.delay.scratch import empty
from ranvier.ops.parallel import in_slices


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
    y, after = torch.ops.ranvier.delay_scatter(x.detach(), pending, *_flat(table))
    return y, after


def gather(x: Tensor, history: Tensor | None, table: Synapses) -> Tensor:
    """Every output reads each of its synapses' inputs at their delay.

    Args:
        x: `[T, B, I]`.
        history: `[D, B, I]`, the inputs before, oldest first; None for zeros.
        table: sorted by output.

    Returns `y` `[T, B, O]`. Work is synapses times steps, whatever the delays. Not differentiable.
    """
    return torch.ops.ranvier.delay_gather(x.detach(), None if history is None else history.detach(), *_flat(table))


def _flat(table: Synapses) -> tuple[Any, ...]:
    return table.ptr, table.other, table.steps, table.strength, table.outputs, table.max_delay


_TABLE = "Tensor ptr, Tensor other, Tensor steps, Tensor strength, int outputs, int max_delay"
torch.library.define("ranvier::delay_scatter", f"(Tensor x, Tensor? pending, {_TABLE}) -> (Tensor, Tensor)")
torch.library.define("ranvier::delay_gather", f"(Tensor x, Tensor? history, {_TABLE}) -> Tensor")


@torch.library.impl("ranvier::delay_scatter", ("cpu", "cuda"))
def delay_scatter_impl(
    x: Tensor, pending: Tensor | None, ptr: Tensor, other: Tensor, steps: Tensor, strength: Tensor, outputs: int,
    max_delay: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    length, batch, _ = x.shape
    if x.dtype != strength.dtype:
        x = x.to(strength.dtype)
    if length == 1 and _has_kernel(x):
        from ranvier.ops.delay.numba_synapses import scatter_step

        y, after = x.new_empty((1, batch, outputs)), x.new_empty((batch, max_delay, outputs))
        before = after[:0] if pending is None else pending.to(x.dtype).contiguous()
        step: Any = scatter_step
        step(*(t.numpy() for t in (x.contiguous()[0], ptr, other, steps, strength, before, y[0], after)))
        return y, after
    future = torch.zeros((length + max_delay, batch, outputs), dtype=x.dtype, device=x.device)
    if pending is not None and max_delay:
        future[:max_delay] = pending.to(x.dtype).transpose(0, 1)
    if _has_kernel(x):
        from ranvier.ops.delay import numba_synapses

        arrays: list[Any] = [t.numpy() for t in (x.contiguous(), ptr, other, steps, strength, future)]
        kernel: Any = numba_synapses.scatter
        work = x.numel() * outputs // 8  # as if one input in eight was a spike
        in_slices(lambda lo, hi: kernel(*arrays, lo, hi), batch, work)
    else:
        pre = torch.repeat_interleave(torch.arange(len(ptr) - 1, device=x.device), ptr.diff())
        for d in steps.unique().tolist():
            late = steps == d
            w = x.new_zeros((x.shape[2], outputs))
            future[d : d + length] += x @ w.index_put_((pre[late], other[late].long()), strength[late], accumulate=True)
    return future[:length], future[length:].transpose(0, 1).clone(memory_format=torch.contiguous_format)


@torch.library.impl("ranvier::delay_gather", ("cpu", "cuda"))
def delay_gather_impl(
    x: Tensor, history: Tensor | None, ptr: Tensor, other: Tensor, steps: Tensor, strength: Tensor, outputs: int,
    max_delay: int,
) -> Tensor:  # fmt: skip
    length, batch, inputs = x.shape
    x = x.to(strength.dtype)
    whole = empty((batch, inputs, max_delay + length), x.dtype, x.device)
    whole[:, :, max_delay:] = x.permute(1, 2, 0)
    if max_delay:
        whole[:, :, :max_delay] = 0 if history is None else history.permute(1, 2, 0)
    if _has_kernel(x):
        from ranvier.ops.delay import numba_synapses

        y = empty((batch, outputs, length), x.dtype)
        arrays: list[Any] = [t.numpy() for t in (whole, ptr, other, steps, strength, y)]
        kernel: Any = numba_synapses.gather
        in_slices(lambda lo, hi: kernel(*arrays, lo, hi), batch, len(strength) * length * batch)
        return y.permute(2, 0, 1)
    y = x.new_zeros((batch, outputs, length))
    post = torch.repeat_interleave(torch.arange(outputs, device=x.device), ptr.diff())
    for d in steps.unique().tolist():
        late = steps == d
        w = x.new_zeros((outputs, inputs))
        w.index_put_((post[late], other[late].long()), strength[late], accumulate=True)
        y += w @ whole[:, :, max_delay - d : max_delay - d + length]
    return y.permute(2, 0, 1)


def _has_kernel(x: Tensor) -> bool:
    return x.device.type == "cpu" and use_kernels("cpu") and x.dtype in (torch.float32, torch.float64)


@torch.library.register_fake("ranvier::delay_scatter")
def _(
    x: Tensor, pending: Tensor | None, ptr: Tensor, other: Tensor, steps: Tensor, strength: Tensor, outputs: int,
    max_delay: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    y = strength.new_empty((x.shape[0], x.shape[1], outputs))
    return y, strength.new_empty((x.shape[1], max_delay, outputs))


@torch.library.register_fake("ranvier::delay_gather")
def _(
    x: Tensor, history: Tensor | None, ptr: Tensor, other: Tensor, steps: Tensor, strength: Tensor, outputs: int,
    max_delay: int,
) -> Tensor:  # fmt: skip
    return strength.new_empty((x.shape[1], outputs, x.shape[0])).permute(2, 0, 1)
