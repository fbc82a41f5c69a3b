"""The ways to run a delayed layer, with the state that each of them carries.

A state is `(history,)`, the last D inputs `[B, D, I]`, oldest first; or `(pending, mark)`, what past inputs still
deliver, `[B, D, O]`, with an empty mark that tells the two apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ranvier.ops.delay import Synapses, convolve, gather, scatter
from ranvier.state import State

if TYPE_CHECKING:
    from ranvier.layers.delays.linear import DelayLinear


def last_inputs(x: Tensor, history: Tensor | None, reach: int) -> Tensor:
    """The history `[B, D, I]` after the inputs `x` `[T, B, I]`."""
    steps = x.shape[0]
    new = x[max(0, steps - reach) :].transpose(0, 1)
    missing = reach - new.shape[1]
    if not missing:
        return new
    if history is None:
        return torch.cat([new.new_zeros((new.shape[0], missing, new.shape[2])), new], 1)
    return torch.cat([history[:, reach - missing :].to(new.dtype), new], 1)


def after_history(x: Tensor, history: Tensor | None) -> tuple[Tensor, int]:
    """`x` with its history before it, and how many steps that is."""
    if history is None or history.shape[1] == 0:
        return x, 0
    return torch.cat([history.transpose(0, 1).to(x.dtype), x]), history.shape[1]


def dense(
    x: Tensor, taps: Tensor, state: State | None, pending: bool, method: str, groups: int
) -> tuple[Tensor, State]:
    """Convolution with the kernels `taps` `[K, O, I / groups]`; differentiable, also through the state."""
    reach, steps = taps.shape[0] - 1, x.shape[0]
    dtype = x.dtype
    if not pending:
        history = None if state is None else state[0]
        whole, lead = after_history(x, history)
        y = convolve(whole, taps, lead, method, groups)
        return y.to(dtype), (last_inputs(x, history, reach),)
    whole = torch.cat([x, x.new_zeros((reach, *x.shape[1:]))])
    y = convolve(whole, taps, 0, method, groups)
    if state is not None:
        y = torch.cat([y[:reach] + state[0].transpose(0, 1), y[reach:]])
    after = y[steps:].transpose(0, 1)
    return y[:steps].to(dtype), (after, after.new_zeros((after.shape[0], 0)))


def gathered(x: Tensor, state: State | None, tables: list[Synapses]) -> tuple[Tensor, State]:
    """Every output reads its synapses' inputs from the history."""
    history = None if state is None else state[0]
    before = None if history is None else history.transpose(0, 1)
    groups = len(tables)
    parts = [None] * groups if before is None else before.chunk(groups, 2)
    ys = [gather(part, past, table) for part, past, table in zip(x.chunk(groups, 2), parts, tables, strict=True)]
    y = ys[0] if groups == 1 else torch.cat(ys, 2)
    return y.to(x.dtype), (last_inputs(x.detach(), history, tables[0].max_delay),)


def scattered(x: Tensor, state: State | None, tables: list[Synapses]) -> tuple[Tensor, State]:
    """Every spike writes into the future of its synapses' outputs."""
    groups = len(tables)
    parts = [None] * groups if state is None else state[0].chunk(groups, 2)
    found = [scatter(part, past, table) for part, past, table in zip(x.chunk(groups, 2), parts, tables, strict=True)]
    if groups == 1:
        y, after = found[0]
    else:
        y, after = torch.cat([f[0] for f in found], 2), torch.cat([f[1] for f in found], 2)
    mark = after.new_zeros((after.shape[0], 0)) if state is None else state[1]
    return y.to(x.dtype), (after, mark)


def shared(layer: DelayLinear, x: Tensor, state: State | None, bumps: Tensor) -> tuple[Tensor, State]:
    """Axonal delays: shift the inputs, then a matrix product. Dendritic ones: the product first."""
    weight, groups, count = layer._weight(), layer.groups, layer.kernel_count
    dtype, x = x.dtype, x.to(weight.dtype)
    steps, batch, _ = x.shape
    reach = layer.max_delay
    if layer.delay_type == "axonal":
        signal = x.unsqueeze(-1).expand(*x.shape, count).flatten(2)  # [T, B, I · C]
    else:
        parts = x.unflatten(2, (groups, -1))
        signal = torch.einsum("tbgi,goic->tbgoc", parts, weight.unflatten(0, (groups, -1))).flatten(2)
    expected = signal.new_empty((batch, reach, signal.shape[2]), device="meta")
    history = None if state is None else layer.fits(state, (expected,))[0]
    whole, lead = after_history(signal, history)
    delayed = _shifted(whole, lead, bumps, layer.whole and not bumps.requires_grad)
    if layer.delay_type == "axonal":
        split = delayed.view(steps, batch, groups, -1, count)
        y = torch.einsum("tbgic,goic->tbgo", split, weight.unflatten(0, (groups, -1))).flatten(2)
    else:
        y = delayed.view(steps, batch, -1, count).sum(3)
    return y.to(dtype), (last_inputs(signal, history, reach),)


def _shifted(x: Tensor, lead: int, bumps: Tensor, whole: bool) -> Tensor:
    """Every channel of `x` `[lead + T, B, N]` through its own bump, `[K, N, C]` flattened to `[K, N · C]`."""
    taps = bumps.flatten(1)
    if not whole:
        return convolve(x, taps.unsqueeze(-1), lead, "conv", groups=x.shape[2])
    reach, steps = taps.shape[0] - 1, x.shape[0] - lead
    padded = torch.cat([x.new_zeros((reach - lead, *x.shape[1:])), x]) if reach > lead else x
    index = torch.arange(steps, device=x.device)[:, None, None] + taps.argmax(0)
    return padded.gather(0, index.expand(steps, *x.shape[1:]))
