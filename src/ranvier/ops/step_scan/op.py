"""The generated scan as a `torch.library` custom op: one graph node a neuron, whatever the number of steps.

For backward the op saves its input and, at every 32nd step, the states. Everything else is recomputed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ranvier.ops.leaky_scan.chunks import chunk_borders
from ranvier.ops.memory import on_huge_pages
from ranvier.ops.step_scan.plan import Plan, plan_of

HALF = (torch.float16, torch.bfloat16)


def work_dtype(x: Tensor) -> torch.dtype:
    """The dtype in which input like `x` is computed."""
    return torch.float32 if x.dtype in HALF else x.dtype


def _kernels(x: Tensor) -> Any:
    if x.device.type == "cuda":
        from ranvier.ops.step_scan import triton_cuda as kernels
    else:
        from ranvier.ops.step_scan import numba_cpu as kernels
    return kernels


def _columns(t: Tensor, dtype: torch.dtype) -> Tensor:
    """A sequence as `[T, M]`, contiguous."""
    return t.detach().to(dtype).contiguous().view(t.shape[0], -1)


def _leaves(plan: Plan, tensors: list[Tensor], step: torch.Size, dtype: torch.dtype) -> list[Tensor]:
    found = plan.parts.before(*(t.detach() for t in tensors))
    return [
        t.to(dtype).reshape(-1) if leaf.uniform else t.to(dtype).expand(step).reshape(-1).contiguous()
        for leaf, t in zip(plan.parts.leaves, found, strict=True)
    ]


def _states(states: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
    return [s.detach().to(dtype).contiguous().view(-1) for s in states]


def _border_shape(x: Tensor, states: list[Tensor], training: bool) -> tuple[int, ...]:
    return chunk_borders(x.shape[0]) if training else 0, len(states), x[0].numel()


def forward_with(
    plan: Plan, kernels: Any, x: Tensor, states: list[Tensor], tensors: list[Tensor], keep_state: bool, training: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Spikes like `x`, final states `[S, ...]` (empty unless `keep_state`) and the states at chunk borders."""
    dtype = work_dtype(x)
    io = x.dtype if kernels.CASTS_IN_KERNEL else dtype
    spikes = torch.empty_like(x, memory_format=torch.contiguous_format)
    if x.device.type == "cpu":
        on_huge_pages(spikes)
    direct = spikes if x.dtype == io else torch.empty_like(spikes, dtype=io)
    last = x.new_empty((len(states), *x.shape[1:]) if keep_state else (0,), dtype=dtype)
    borders = x.new_empty(_border_shape(x, states, training), dtype=dtype)
    if x.numel() > 0:
        with torch.no_grad():
            kernels.forward(
                plan, _columns(x, io), _states(states, dtype), _leaves(plan, tensors, x.shape[1:], dtype),
                direct.view(x.shape[0], -1), last, borders,
            )  # fmt: skip
    if direct is not spikes:
        spikes.copy_(direct)
    return spikes, last, borders


def backward_with(
    plan: Plan, kernels: Any, x: Tensor, states: list[Tensor], tensors: list[Tensor], borders: Tensor, gs: Tensor,
    glast: Tensor | None,
) -> tuple[Tensor, list[Tensor], list[Tensor]]:  # fmt: skip
    """Gradients of `x`, the initial states and the tensors (empty where a tensor has none)."""
    dtype, step = work_dtype(x), x.shape[1:]
    io = x.dtype if kernels.CASTS_IN_KERNEL else dtype
    gtensors = [t.new_zeros(t.shape if g else 0) for t, g in zip(tensors, graded(plan), strict=True)]
    if x.numel() == 0:
        return torch.zeros_like(x), [s.new_zeros(s.shape) for s in states], gtensors
    with torch.no_grad():
        final = x.new_empty(0, dtype=dtype) if glast is None else glast.detach().to(dtype).contiguous()
        gx, gstates, sums = kernels.backward(
            plan, _columns(x, io), _states(states, dtype), _leaves(plan, tensors, step, dtype), borders,
            _columns(gs, io), final,
        )  # fmt: skip
        assert plan.parts.after is not None
        found = plan.parts.after(*(a.view(step) for a in sums), *(t.detach() for t in tensors))
    for name, g in zip((plan.parts.used.index(i) for i in plan.parts.graded), found, strict=True):
        gtensors[name] = g.to(tensors[name].dtype).contiguous()
    return gx.view(x.shape).to(x.dtype), [g.view(s.shape).to(s.dtype) for g, s in zip(gstates, states, strict=True)], gtensors


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
    dtype = work_dtype(x)
    return (
        torch.empty_like(x, memory_format=torch.contiguous_format),
        x.new_empty((len(states), *x.shape[1:]) if keep_state else (0,), dtype=dtype),
        x.new_empty(_border_shape(x, states, training), dtype=dtype),
    )


@torch.library.register_fake("ranvier::step_scan_backward")
def _(
    x: Tensor, states: list[Tensor], tensors: list[Tensor], borders: Tensor, grad_spikes: Tensor,
    grad_last: Tensor | None, plan: str,
) -> tuple[Tensor, list[Tensor], list[Tensor]]:  # fmt: skip
    return (
        torch.empty_like(x, memory_format=torch.contiguous_format),
        [s.new_empty(s.shape) for s in states],
        [t.new_empty(t.shape if g else 0) for t, g in zip(tensors, graded(plan_of(plan)), strict=True)],
    )


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    x, states, tensors, ctx.plan, ctx.keep_state, _ = inputs
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(output[2])
    ctx.states, ctx.tensors = len(states), len(tensors)
    ctx.save_for_backward(x, *states, *tensors, output[2])


def _autograd(ctx: Any, grad_spikes: Tensor | None, grad_last: Tensor | None, _: Tensor | None) -> tuple[Any, ...]:
    x, *rest, borders = ctx.saved_tensors
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
