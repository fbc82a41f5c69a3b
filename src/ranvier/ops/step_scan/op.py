"""The generated scan as a `torch.library` custom op: one graph node a neuron, whatever the number of steps.

For backward the op saves its input and, at every 32nd step, the states. Everything else is recomputed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ranvier.ops.layout import Layout, in_strides
from ranvier.ops.leaky_scan.chunks import chunk_borders
from ranvier.ops.memory import empty_like
from ranvier.ops.step_rows import StepRows
from ranvier.ops.step_scan.plan import Plan, plan_of


def _kernels(x: Tensor) -> Any:
    if x.device.type == "cuda":
        from ranvier.ops.step_scan import triton_cuda as kernels
    else:
        from ranvier.ops.step_scan import numba_cpu as kernels
    return kernels


def leaves(lay: Layout, plan: Plan, tensors: list[Tensor]) -> list[Tensor]:
    """What the kernel reads of the neuron's tensors: one element each, or `[M]`."""
    found = plan.parts.before(*(t.detach() for t in tensors))
    return [
        t.to(lay.dtype).reshape(-1) if leaf.uniform else lay.column(t)
        for leaf, t in zip(plan.parts.leaves, found, strict=True)
    ]


def _border_shape(x: Tensor, states: list[Tensor], training: bool) -> tuple[int, ...]:
    return chunk_borders(x.shape[0]) if training else 0, len(states), x[0].numel()


def forward_with(
    plan: Plan, kernels: Any, x: Tensor, states: list[Tensor], tensors: list[Tensor], keep_state: bool, training: bool,
    batch: int | None = None, rows: StepRows | None = None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Spikes like `x`, final states `[S, ...]` (empty unless `keep_state`) and the states at chunk borders; `batch`
    and `rows` of a packed batch."""
    lay = Layout(x, batch)
    more = {} if rows is None else {"rows": rows}
    io = x.dtype if kernels.CASTS_IN_KERNEL else lay.dtype
    spikes = empty_like(x) if x.is_contiguous() else lay.new_sequence()
    direct = spikes if x.dtype == io else lay.new_sequence(io)
    last = lay.new_states(len(states)) if keep_state else x.new_empty(0, dtype=lay.dtype)
    border = _border_shape(x, states, training) if rows is None else (rows.kept * len(states),)
    borders = x.new_empty(border, dtype=lay.dtype)
    if x.numel() > 0:
        with torch.no_grad():
            kernels.forward(
                plan, lay.sequence(x, io), [lay.column(s) for s in states], leaves(lay, plan, tensors),
                lay.sequence(direct, io), lay.states(last) if keep_state else last, borders, **more,
            )  # fmt: skip
    if direct is not spikes:
        spikes.copy_(direct)
    return spikes, last, borders


def backward_with(
    plan: Plan, kernels: Any, x: Tensor, states: list[Tensor], tensors: list[Tensor], borders: Tensor, gs: Tensor,
    glast: Tensor | None, batch: int | None = None, rows: StepRows | None = None,
) -> tuple[Tensor, list[Tensor], list[Tensor]]:  # fmt: skip
    """Gradients of `x`, the initial states and the tensors (empty where a tensor has none)."""
    lay = Layout(x, batch)
    more = {} if rows is None else {"rows": rows}
    io = x.dtype if kernels.CASTS_IN_KERNEL else lay.dtype
    gtensors = [t.new_zeros(t.shape if g else 0) for t, g in zip(tensors, graded(plan), strict=True)]
    if x.numel() == 0:
        return lay.new_sequence(), [s.new_zeros(s.shape) for s in states], gtensors
    with torch.no_grad():
        final = x.new_empty(0, dtype=lay.dtype) if glast is None else lay.states(glast)
        gx, gstates, sums = kernels.backward(
            plan, lay.sequence(x, io), [lay.column(s) for s in states], leaves(lay, plan, tensors), borders,
            lay.sequence(gs, io), final, **more,
        )  # fmt: skip
        assert plan.parts.after is not None
        found = plan.parts.after(*(lay.step_like(a) for a in sums), *(t.detach() for t in tensors))
    for i, g in zip(plan.parts.graded, found, strict=True):
        place = plan.parts.used.index(i)
        gtensors[place] = g.to(tensors[place].dtype).clone(memory_format=torch.contiguous_format)
    gx = gx.view([x.shape[d] for d in lay.order]).permute(lay.back).to(x.dtype)
    gstates = [lay.step_like(g).to(s.dtype).contiguous() for g, s in zip(gstates, states, strict=True)]
    return gx, gstates, gtensors


def graded(plan: Plan) -> list[bool]:
    """Which of the plan's tensors have a gradient."""
    return [i in plan.parts.graded for i in plan.parts.used]


torch.library.define(
    "ranvier::step_scan",
    "(Tensor x, Tensor[] states, Tensor[] tensors, str plan, bool keep_state, bool training) "
    "-> (Tensor, Tensor, Tensor)",
)
torch.library.define(
    "ranvier::step_scan_backward",
    "(Tensor x, Tensor[] states, Tensor[] tensors, Tensor borders, Tensor grad_spikes, Tensor? grad_last, str plan) "
    "-> (Tensor, Tensor[], Tensor[])",
)


@torch.library.impl("ranvier::step_scan", ("cpu", "cuda"))
def step_scan_impl(
    x: Tensor, states: list[Tensor], tensors: list[Tensor], plan: str, keep_state: bool, training: bool
) -> tuple[Tensor, Tensor, Tensor]:
    return forward_with(plan_of(plan), _kernels(x), x, states, tensors, keep_state, training)


@torch.library.impl("ranvier::step_scan_backward", ("cpu", "cuda"))
def step_scan_backward_impl(
    x: Tensor, states: list[Tensor], tensors: list[Tensor], borders: Tensor, grad_spikes: Tensor,
    grad_last: Tensor | None, plan: str,
) -> tuple[Tensor, list[Tensor], list[Tensor]]:  # fmt: skip
    return backward_with(plan_of(plan), _kernels(x), x, states, tensors, borders, grad_spikes, grad_last)


@torch.library.register_fake("ranvier::step_scan")
def _(
    x: Tensor, states: list[Tensor], tensors: list[Tensor], plan: str, keep_state: bool, training: bool
) -> tuple[Tensor, Tensor, Tensor]:
    lay = Layout(x)
    return (
        lay.new_sequence(),
        lay.new_states(len(states)) if keep_state else x.new_empty(0, dtype=lay.dtype),
        x.new_empty(_border_shape(x, states, training), dtype=lay.dtype),
    )


@torch.library.register_fake("ranvier::step_scan_backward")
def _(
    x: Tensor, states: list[Tensor], tensors: list[Tensor], borders: Tensor, grad_spikes: Tensor,
    grad_last: Tensor | None, plan: str,
) -> tuple[Tensor, list[Tensor], list[Tensor]]:  # fmt: skip
    return (
        Layout(x).new_sequence(),
        [s.new_empty(s.shape) for s in states],
        [t.new_empty(t.shape if g else 0) for t, g in zip(tensors, graded(plan_of(plan)), strict=True)],
    )


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    x, states, tensors, ctx.plan, ctx.keep_state, _ = inputs
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(output[2])
    ctx.states, ctx.tensors, ctx.strides = len(states), len(tensors), x.stride()
    ctx.save_for_backward(x, *states, *tensors, output[2])


def _autograd(ctx: Any, grad_spikes: Tensor | None, grad_last: Tensor | None, _: Tensor | None) -> tuple[Any, ...]:
    x, *rest, borders = ctx.saved_tensors
    x = in_strides(x, ctx.strides)
    states, tensors = rest[: ctx.states], rest[ctx.states :]
    grad_last = grad_last if ctx.keep_state else None
    if grad_spikes is None and grad_last is None:
        return None, [None] * len(states), [None] * len(tensors), None, None, None
    if grad_spikes is None:
        grad_spikes = torch.zeros_like(x)
    gx, gstates, gtensors = torch.ops.ranvier.step_scan_backward(
        x, states, tensors, borders, grad_spikes, grad_last, ctx.plan
    )
    has = graded(plan_of(ctx.plan))
    return gx, gstates, [g if h else None for g, h in zip(gtensors, has, strict=True)], None, None, None


torch.library.register_autograd("ranvier::step_scan", _autograd, setup_context=_setup_context)
