"""Run the generated Numba kernels."""

from __future__ import annotations

from torch import Tensor

from ranvier.ops.memory import empty_like
from ranvier.ops.parallel import over_range
from ranvier.ops.step_rows import StepRows, even
from ranvier.ops.step_scan.plan import Plan

CASTS_IN_KERNEL = False  # Numba has no half precision: the op converts


def forward(
    plan: Plan, x: Tensor, states: list[Tensor], leaves: list[Tensor], spikes: Tensor, last: Tensor, borders: Tensor,
    rows: StepRows | None = None,
) -> None:  # fmt: skip
    """Fill `spikes` `[T, M]`, `last` (`[S, M]` or empty) and `borders` (`[chunk_borders(T), S, M]` or empty). `x` is
    `[T, M]`, a state `[M]`, a leaf `[M]` or one element; all contiguous in the working dtype. With `rows`, `x` and
    `spikes` lie as it says, and `borders` has `rows.kept` elements for every state."""
    kernel = plan.module.forward
    read = [leaves[i] for i in plan.forward_leaves]
    rows = even(*x.shape, borders.numel() > 0) if rows is None else rows
    arrays = [t.view(-1).numpy() for t in (x, *states, *read, spikes, last, borders)]
    over_range(lambda lo, hi: kernel(*arrays, rows.first, rows.active, rows.saved, lo, hi), rows.active)


def backward(
    plan: Plan, x: Tensor, states: list[Tensor], leaves: list[Tensor], borders: Tensor, gs: Tensor, glast: Tensor,
    rows: StepRows | None = None,
) -> tuple[Tensor, list[Tensor], list[Tensor]]:  # fmt: skip
    """Gradients of `x` `[T, M]` and of the initial states `[M]`, and the sums over time that the parameters' gradients
    are made of `[M]`; arguments as in `forward`."""
    kernel = plan.backward_module.backward
    rows = even(*x.shape) if rows is None else rows
    size = int(rows.active[0])
    gx = empty_like(x)
    gstates = [x.new_empty(size) for _ in states]
    sums = [x.new_empty(size) for _ in plan.parts.sums]
    arrays = [t.view(-1).numpy() for t in (x, *states, *leaves, borders, gs, glast, gx, *gstates, *sums)]
    over_range(lambda lo, hi: kernel(*arrays, rows.first, rows.active, rows.saved, lo, hi), rows.active)
    return gx, gstates, sums
