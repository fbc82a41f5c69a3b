"""The plan of a scan: a divided step with its kernels, shared by all neurons that are alike, found by its key."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import Any

import torch
from torch import nn

from ranvier.ops.step_scan.errors import CannotFuse
from ranvier.ops.step_scan.partition import Parts, divide
from ranvier.ops.step_scan.signature import signature
from ranvier.ops.step_scan.source_files import module_of
from ranvier.ops.step_scan.trace import trace_step

KEPT = 512  # signatures whose plan is remembered
_known: OrderedDict[Hashable, str | CannotFuse] = OrderedDict()
_plans: dict[str, Plan] = {}  # never emptied: compiled graphs name their plan


@dataclass
class Plan:
    """Everything the op needs: the divided step, which of the neuron's tensors it reads, and its kernels."""

    parts: Parts
    names: tuple[str, ...]
    dtype: torch.dtype
    device: str
    source: str
    backward_source: str = ""  # where the kernels of a device are two modules, so that inference shares the first

    @cached_property
    def key(self) -> str:
        """A name that is the same in every process for the same equations."""
        parts = self.parts
        graphs = [g for g in (parts.before, parts.after) if g is not None]
        pieces: list[object] = [self.source, self.backward_source, self.names, parts.used, parts.graded, self.device]
        pieces += [g.code for g in graphs]
        for graph in graphs:  # the code names its constants, but does not show them
            pieces += [graph.get_buffer(str(n.target)).tolist() for n in graph.graph.nodes if n.op == "get_attr"]
        return hashlib.sha256("\n".join(map(repr, pieces)).encode()).hexdigest()[:32]

    @cached_property
    def module(self) -> ModuleType:
        """The compiled source."""
        return module_of(self.source, _context(self.device))

    @cached_property
    def backward_module(self) -> ModuleType:
        """The compiled source of the way back."""
        return module_of(self.backward_source, _context(self.device))

    @cached_property
    def forward_leaves(self) -> list[int]:
        """Which of the leaves the forward kernel takes."""
        from ranvier.ops.step_scan.numba_source import forward_leaves

        return forward_leaves(self.parts)


def _context(device: str) -> str:
    """What a compiled kernel depends on beside its source: the functions that are compiled into it."""
    import inspect

    if device == "cuda":
        from ranvier.ops.step_scan import triton_math as imported

        modules: list[Any] = [imported]
    else:
        from ranvier.ops import direct_loops, vector_math

        modules = [vector_math, direct_loops]
    return "".join(inspect.getsource(m) for m in modules)


def plan_of(key: str) -> Plan:
    """The plan with this key, made earlier in this process."""
    return _plans[key]


def make_plan(
    neuron: nn.Module,
    step_shape: tuple[int, ...],
    states: int,
    dtype: torch.dtype,
    device: torch.device,
    training: bool,
) -> Plan:
    """Trace, divide and print a neuron's step. Raises `CannotFuse`."""
    like = torch.empty(0, dtype=dtype, device=device)
    trace = trace_step(neuron, step_shape, states, like, training)
    parts, single = divide(trace, step_shape, dtype), dtype == torch.float32
    if device.type == "cuda":
        from ranvier.ops.step_scan.triton_source import triton_source

        sources = (triton_source(parts, single),)
    else:
        from ranvier.ops.step_scan.numba_source import backward_source, forward_source

        sources = forward_source(parts, single), backward_source(parts, single)
    return Plan(parts, tuple(trace.names[i] for i in parts.used), dtype, device.type, *sources)


def find_plan(
    neuron: nn.Module,
    step_shape: tuple[int, ...],
    states: int,
    dtype: torch.dtype,
    device: torch.device,
    training: bool,
) -> Plan | CannotFuse:
    """The plan for this neuron and input, made once for all neurons that are alike; or why there is none."""
    form = (signature(neuron), step_shape, states, dtype, device, training)
    if form not in _known:
        try:
            plan = make_plan(neuron, step_shape, states, dtype, device, training)
            _known[form] = plan.key
            _plans.setdefault(plan.key, plan)
        except CannotFuse as reason:
            _known[form] = CannotFuse(str(reason))
        while len(_known) > KEPT:
            _known.popitem(last=False)
    _known.move_to_end(form)
    found = _known[form]
    return _plans[found] if isinstance(found, str) else found
