"""Run the generated Numba kernels."""

from __future__ import annotations

from torch import Tensor

from ranvier.ops.memory import empty_like
from ranvier.ops.parallel import over_range
from ranvier.ops.step_scan.plan import Plan

CASTS_IN_KERNEL = False  # Numba has no half precision: the op converts


def forward(
    plan: Plan, x: Tensor, states: list[Tensor], leaves: list[Tensor], spikes: Tensor, last: Tensor, borders: Tensor
) -> None:
    """Fill `spikes` `[T, M]`, `last` (`[S, M]` or empty) and `borders` (`[chunk_borders(T), S, M]` or empty). `x` is
    `[T, M]`, a state `[M]`, a leaf `[M]` or one element; all contiguous in the working dtype."""
    kernel = plan.module.forward
    arrays = [t.view(-1).numpy() for t in (x, *states, *leaves, spikes, last, borders)]
    steps, size = x.shape
    over_range(lambda lo, hi: kernel(*arrays, size, lo, hi), size, steps * size)


def backward(
    plan: Plan, x: Tensor, states: list[Tensor], leaves: list[Tensor], borders: Tensor, gs: Tensor, glast: Tensor
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Gradients of `x` `[T, M]` and of the initial states `[M]`, and the sums over time that the parameters' gradients
    are made of `[M]`; arguments as in `forward`."""
    kernel = plan.module.backward
    size = x.shape[1]
    gx = empty_like(x)
    gstates = [x.new_empty(size) for _ in states]
    sums = [x.new_empty(size) for _ in plan.parts.sums]
    arrays = [t.view(-1).numpy() for t in (x, *states, *leaves, borders, gs, glast, gx, *gstates, *sums)]
    over_range(lambda lo, hi: kernel(*arrays, size, lo, hi), size, x.numel())
    return gx, gstates, sums
