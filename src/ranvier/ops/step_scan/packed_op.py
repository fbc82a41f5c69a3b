"""The generated scan over a packed batch of sequences of many lengths, as a `torch.library` custom op (CPU).

Arguments as in `ranvier.ops.leaky_scan.packed_op`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ranvier.ops.layout import Layout
from ranvier.ops.step_rows import packed
from ranvier.ops.step_scan import numba_cpu as kernels
from ranvier.ops.step_scan.op import backward_with, forward_with, graded
from ranvier.ops.step_scan.plan import plan_of

torch.library.define(
    "ranvier::step_scan_packed",
    "(Tensor x, Tensor[] states, Tensor[] tensors, Tensor counts, int batch, int kept, str plan, bool keep_state) "
    "-> (Tensor, Tensor, Tensor)",
)
torch.library.define(
    "ranvier::step_scan_packed_backward",
    "(Tensor x, Tensor[] states, Tensor[] tensors, Tensor counts, int batch, Tensor borders, Tensor grad_spikes, "
    "Tensor? grad_last, str plan) -> (Tensor, Tensor[], Tensor[])",
)


@torch.library.impl("ranvier::step_scan_packed", "cpu")
def _forward(
    x: Tensor, states: list[Tensor], tensors: list[Tensor], counts: Tensor, batch: int, kept: int, plan: str,
    keep_state: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    x, rows = x.contiguous(), packed(counts, x[0].numel(), kept > 0)
    return forward_with(plan_of(plan), kernels, x, states, tensors, keep_state, kept > 0, batch, rows)


@torch.library.impl("ranvier::step_scan_packed_backward", "cpu")
def _backward(
    x: Tensor, states: list[Tensor], tensors: list[Tensor], counts: Tensor, batch: int, borders: Tensor,
    grad_spikes: Tensor, grad_last: Tensor | None, plan: str,
) -> tuple[Tensor, list[Tensor], list[Tensor]]:  # fmt: skip
    x, rows = x.contiguous(), packed(counts, x[0].numel())
    return backward_with(plan_of(plan), kernels, x, states, tensors, borders, grad_spikes, grad_last, batch, rows)


@torch.library.register_fake("ranvier::step_scan_packed")
def _(
    x: Tensor, states: list[Tensor], tensors: list[Tensor], counts: Tensor, batch: int, kept: int, plan: str,
    keep_state: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    lay = Layout(x, batch)
    last = lay.new_states(len(states)) if keep_state else x.new_empty(0, dtype=lay.dtype)
    return lay.new_sequence(), last, x.new_empty(kept * len(states), dtype=lay.dtype)


@torch.library.register_fake("ranvier::step_scan_packed_backward")
def _(
    x: Tensor, states: list[Tensor], tensors: list[Tensor], counts: Tensor, batch: int, borders: Tensor,
    grad_spikes: Tensor, grad_last: Tensor | None, plan: str,
) -> tuple[Tensor, list[Tensor], list[Tensor]]:  # fmt: skip
    return (
        Layout(x, batch).new_sequence(),
        [s.new_empty(s.shape) for s in states],
        [t.new_empty(t.shape if g else 0) for t, g in zip(tensors, graded(plan_of(plan)), strict=True)],
    )


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    x, states, tensors, counts, ctx.batch, _, ctx.plan, ctx.keep_state = inputs
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(output[2])
    ctx.states, ctx.tensors = len(states), len(tensors)
    ctx.save_for_backward(x, *states, *tensors, counts, output[2])


def _autograd(ctx: Any, grad_spikes: Tensor | None, grad_last: Tensor | None, _: Tensor | None) -> tuple[Any, ...]:
    x, *rest, counts, borders = ctx.saved_tensors
    states, tensors = rest[: ctx.states], rest[ctx.states :]
    none = (None,) * 5
    grad_last = grad_last if ctx.keep_state else None
    if grad_spikes is None and grad_last is None:
        return None, [None] * len(states), [None] * len(tensors), *none
    if grad_spikes is None:
        grad_spikes = torch.zeros_like(x)
    gx, gstates, gtensors = torch.ops.ranvier.step_scan_packed_backward(
        x, states, tensors, counts, ctx.batch, borders, grad_spikes, grad_last, ctx.plan
    )
    has = graded(plan_of(ctx.plan))
    return gx, gstates, [g if h else None for g, h in zip(gtensors, has, strict=True)], *none


torch.library.register_autograd("ranvier::step_scan_packed", _autograd, setup_context=_setup_context)
