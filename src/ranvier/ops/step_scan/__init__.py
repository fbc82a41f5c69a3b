"""A fused scan for any neuron, generated from the equations in its `step`.

The step and its vector-Jacobian product are traced once, turned into scalar expressions and printed as Numba source
(CPU) or Triton source (CUDA). What cannot be turned (control flow that depends on the data, operations that mix the
elements of a step, random numbers) runs as the plain loop.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ranvier.ops.backend import use_kernels
from ranvier.ops.step_scan.errors import CannotFuse

__all__ = ["CannotFuse", "explain", "plan_key", "step_scan", "step_scan_packed"]

State = tuple[Tensor, ...]
_DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def step_scan(neuron: Any, x: Tensor, state: State, keep_state: bool) -> tuple[Tensor, State | None] | None:
    """All steps of `neuron` over `x` `[T, B, ...]` from `state`, in one kernel; None where there is none.

    `neuron` is a module with `step(x_t, state) -> (spike, state)` and `scan_plan`. Returns spikes in the dtype of `x`
    and the final state if `keep_state` (float32 for half-precision input). Differentiable once in `x`, `state` and the
    parameters.
    """
    found = _plan(neuron, x, state, tuple(x.shape[1:]))
    if found is None:
        return None
    key, tensors, training = found
    if torch.compiler.is_dynamo_compiling():
        # Its result is dropped from the graph, but what it read of the neuron is guarded: a change compiles anew.
        with torch.no_grad():
            neuron.step(x[0].to(_work_dtype(x)), state)
    spikes, last, _ = torch.ops.ranvier.step_scan(x, list(state), tensors, key, keep_state, training)
    return spikes, tuple(last.unbind(0)) if keep_state else None


def step_scan_packed(
    neuron: Any, x: Tensor, state: State, counts: Tensor, borders: int, keep_state: bool
) -> tuple[Tensor, State | None] | None:
    """`step_scan` of every sequence of a packed batch by itself; arguments as in `leaky_scan_packed`."""
    batch = state[0].shape[0] if state else 0
    found = _plan(neuron, x, state, (batch, *x.shape[1:])) if x.device.type == "cpu" and state else None
    if found is None or x.numel() == 0 or torch.compiler.is_dynamo_compiling():
        return None
    from ranvier.ops.step_scan import packed_op  # noqa: F401  registers the op

    key, tensors, training = found
    kept = borders * x[0].numel() if training else 0
    spikes, last, _ = torch.ops.ranvier.step_scan_packed(x, list(state), tensors, counts, batch, kept, key, keep_state)
    return spikes, tuple(last.unbind(0)) if keep_state else None


def _plan(neuron: Any, x: Tensor, state: State, step: tuple[int, ...]) -> tuple[str, list[Tensor], bool] | None:
    """The key of the kernels, the tensors that they read, and whether a backward pass may follow."""
    if not _possible(x, state, step) or _transformed(neuron, x, state):
        return None
    training = torch.is_grad_enabled() and (
        x.requires_grad or any(s.requires_grad for s in state) or any(p.requires_grad for p in neuron.parameters())
    )
    found = neuron.scan_plan(step, len(state), x.dtype, x.device, training)
    if found is None:
        return None
    key, names = found
    return key, [_attribute(neuron, name) for name in names], training


def _work_dtype(x: Tensor) -> torch.dtype:
    return torch.float32 if x.dtype in (torch.float16, torch.bfloat16) else x.dtype


def _possible(x: Tensor, state: State, step: tuple[int, ...]) -> bool:
    if x.dtype not in _DTYPES or not use_kernels(x.device.type):
        return False
    return all(tuple(s.shape) == step and s.dtype == _work_dtype(x) and s.device == x.device for s in state)


def _transformed(neuron: Any, x: Tensor, state: State) -> bool:
    """Whether a transform of torch.func (vmap, grad, jvp) is at work, which goes through the loop."""
    if torch.compiler.is_dynamo_compiling():
        return False
    wrapped: Any = torch._C._functorch.is_functorch_wrapped_tensor  # pyright: ignore[reportAttributeAccessIssue]
    return any(wrapped(t) for t in (x, *state, *neuron.parameters()))


def _attribute(neuron: Any, name: str) -> Tensor:
    for part in name.split("."):
        neuron = getattr(neuron, part)
    return neuron


def plan_key(
    neuron: nn.Module,
    step_shape: tuple[int, ...],
    states: int,
    dtype: torch.dtype,
    device: torch.device,
    training: bool,
) -> tuple[str, tuple[str, ...]] | None:
    """The key of the neuron's kernels for such input and the names of the tensors they read; None if there are none."""
    from ranvier.ops.step_scan import op  # noqa: F401  registers the op
    from ranvier.ops.step_scan.plan import find_plan

    work = torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype
    plan = find_plan(neuron, step_shape, states, work, device, training)
    return None if isinstance(plan, CannotFuse) else (plan.key, plan.names)


def explain(neuron: Any, x: Tensor | None = None, training: bool = True) -> str:
    """One line: "fused", or "loop: " and the reason.

    `x` is an example input `[T, B, ...]`, by default zeros `[1, 2, 4]`. Neurons with a hand-written kernel do not use
    this one; the answer then says whether they could.
    """
    from ranvier.ops.step_scan.plan import find_plan

    dtype = next((p.dtype for p in neuron.parameters()), torch.get_default_dtype())
    x = torch.zeros(1, 2, 4, dtype=dtype) if x is None else x
    work = _work_dtype(x)
    state = neuron.initial_state(x[0].to(work))
    if not _possible(x, state, tuple(x.shape[1:])):
        return "loop: no kernels for the dtype, shape or device of input and state, or RANVIER_BACKEND=reference"
    plan = find_plan(neuron, tuple(x.shape[1:]), len(state), work, x.device, training)
    return f"loop: {plan}" if isinstance(plan, CannotFuse) else "fused"
