"""From a neuron's `step` to one aten graph of a step and its vector-Jacobian product.

The step is traced on fake tensors of the real step shape, on a shallow copy of the neuron whose parameters, buffers and
tensor attributes are stand-ins, so that tracing computes nothing and leaves nothing behind. Gradients come from
autograd itself: a surrogate, a `detach` or a `no_grad` block counts exactly as it does in the loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._decomp import get_decompositions
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import _disable_current_modes

from ranvier.ops.step_scan.errors import CannotFuse
from ranvier.ops.step_scan.lowering import SPLIT
from ranvier.ops.step_scan.signature import own_tensors, signature


@dataclass(frozen=True)
class Trace:
    """`graph` maps (x, states, tensors, upstream gradients) to (spike, new states, gradients of the first three).

    The gradients are absent in a trace for inference, and None where nothing depends on the input.
    """

    graph: torch.fx.GraphModule
    names: tuple[str, ...]
    states: int
    training: bool


def shallow(module: nn.Module, memo: dict[int, nn.Module]) -> nn.Module:
    """A copy that shares every attribute but not the dictionaries that hold them, submodules included."""
    if id(module) not in memo:
        twin = memo[id(module)] = object.__new__(type(module))
        twin.__dict__ = dict(module.__dict__)
        for name in ("_parameters", "_buffers"):
            twin.__dict__[name] = dict(module.__dict__[name])
        twin.__dict__["_modules"] = {
            name: None if child is None else shallow(child, memo) for name, child in module._modules.items()
        }
    return memo[id(module)]


def _put(module: Any, name: str, tensor: Tensor) -> None:
    *path, last = name.split(".")
    for part in path:
        module = module._modules[part]
    for holder in (module._parameters, module._buffers, module.__dict__):
        if last in holder:
            holder[last] = tensor
            return


def _writes(node: torch.fx.Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def trace_step(neuron: nn.Module, step_shape: tuple[int, ...], states: int, like: Tensor, training: bool) -> Trace:
    """Trace `neuron.step` for input of `step_shape` in the dtype and on the device of `like`.

    Raises `CannotFuse` when the step cannot be traced: its control flow depends on the data, it changes the neuron, or
    it uses tensors from elsewhere.
    """
    twin: Any = shallow(neuron, {})
    own = own_tensors(neuron)
    before = signature(twin)

    def run(x: Tensor, state: list[Tensor], tensors: list[Tensor]) -> tuple[Tensor, ...]:
        for name, tensor in zip(own, tensors, strict=True):
            _put(twin, name, tensor)
        spike, new = twin.step(x, tuple(state))
        if len(new) != len(state):
            raise CannotFuse(f"step takes {len(state)} states and returns {len(new)}")
        return spike, *new

    def inference(x: Tensor, state: list[Tensor], tensors: list[Tensor]) -> tuple[Any, ...]:
        with torch.no_grad():
            return run(x, state, tensors)

    def joint(x: Tensor, state: list[Tensor], tensors: list[Tensor], upstream: list[Tensor]) -> tuple[Any, ...]:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            state = [s.detach().requires_grad_() for s in state]
            needs = [t.requires_grad for t in own.values()]
            tensors = [t.detach().requires_grad_(g) for t, g in zip(tensors, needs, strict=True)]
            out = run(x, state, tensors)
            pairs = [(o, g) for o, g in zip(out, upstream, strict=True) if o.requires_grad]
            if not pairs:
                raise CannotFuse("no output of step depends differentiably on its input")
            leaves = [x, *state, *(t for t in tensors if t.requires_grad)]
            outputs, grads = [o for o, _ in pairs], [g for _, g in pairs]
            found = iter(torch.autograd.grad(outputs, leaves, grads, allow_unused=True))
            gx, *gstate = (next(found) for _ in range(1 + len(state)))
            return *out, gx, *gstate, *(next(found) if g else None for g in needs)

    with (
        _disable_current_modes(),
        torch.inference_mode(False),
        torch.autocast(like.device.type, enabled=False),
        torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t),  # a checkpoint's hooks see no stand-ins
    ):
        mode = FakeTensorMode()
        with mode:
            stand_ins = [torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device=t.device) for t in own.values()]
            column = [torch.empty(step_shape, dtype=like.dtype, device=like.device) for _ in range(2 * (1 + states))]
            x, *rest = column
            arguments: tuple[Any, ...] = (x, rest[:states], stand_ins)
            if training:
                arguments = (*arguments, rest[states:])
            try:
                split: Any = get_decompositions(SPLIT)
                traced = joint if training else inference
                graph = make_fx(traced, tracing_mode="fake", decomposition_table=split)(*arguments)
                if any(_writes(n) for n in graph.graph.nodes):  # autograd's own formulas do, and a step may, locally
                    graph = make_fx(torch.func.functionalize(graph), tracing_mode="fake")(*arguments)
            except CannotFuse:
                raise
            except Exception as error:  # whatever stops the trace stops the fusion, and nothing else
                first = (str(error).strip().splitlines() or [""])[0]
                raise CannotFuse(f"step cannot be traced: {type(error).__name__}: {first}") from error
    for name, tensor in own.items():
        _put(twin, name, tensor)
    if signature(twin) != before:
        raise CannotFuse("step changes attributes of the neuron; state belongs into the tuple that it returns")
    return Trace(graph, tuple(own), states, training)
