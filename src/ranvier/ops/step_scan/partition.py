"""Divide the graph of a step into what runs once before the scan, what runs for every element and step, and what runs
once after the scan.

- *before*: what depends on the neuron's tensors alone (a logistic of a learned decay, its alignment with the channels).
  Plain torch, any operation. Its results enter the kernel as one number or one value a column.
- *inside*: what depends on input, state or upstream gradient. Pointwise operations only; this becomes the kernel.
- *after*: how gradients of the columns become gradients of the tensors (the reduction over the batch, the derivative of
  that logistic). It is linear in the upstream gradient and the same in every step, so it is applied once, to the sum
  over time that the kernel accumulates.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import fx

from ranvier.ops.step_scan.errors import CannotFuse
from ranvier.ops.step_scan.expressions import Expressions, Value
from ranvier.ops.step_scan.lowering import UNCHANGED, filled_with, has_rule, lower
from ranvier.ops.step_scan.trace import Trace

aten = torch.ops.aten
BEFORE, INSIDE, AFTER, FILLED = "before", "inside", "after", "filled"
_LINEAR = (
    aten.sum, aten.view, aten._unsafe_view, aten.reshape, aten.expand, aten.squeeze, aten.unsqueeze, aten.neg,
    aten.permute, aten.transpose, aten.t, aten.detach, aten.alias, aten.clone, aten.add, aten.sub, aten._to_copy,
    aten.select_backward, aten.slice_backward,
)  # fmt: skip


@dataclass(frozen=True)
class Leaf:
    """A value from before the scan, as the kernel sees it."""

    name: str
    uniform: bool


@dataclass
class Parts:
    """The divided step; see the module. Values are expressions of the kernel's named inputs: `x`, `s0…` (states), `p0…`
    (leaves), `g` and `q0…` (upstream gradients of the spike and of the new states)."""

    before: fx.GraphModule
    after: fx.GraphModule | None
    leaves: list[Leaf]
    used: list[int]
    spike: Value
    new_states: list[Value]
    gx: Value | None = None
    gstates: list[Value] = field(default_factory=list)
    sums: list[Value] = field(default_factory=list)
    graded: list[int] = field(default_factory=list)


class _Divider:
    def __init__(self, trace: Trace, step_shape: tuple[int, ...], dtype: torch.dtype) -> None:
        self.trace, self.shape, self.dtype = trace, torch.Size(step_shape), dtype
        self.e = Expressions(np.float32 if dtype == torch.float32 else np.float64)
        self.kind: dict[fx.Node, str] = {}
        self.values: dict[fx.Node, Value] = {}
        self.leaves: list[Leaf] = []
        self.leaf_nodes: list[fx.Node] = []
        self.sums: dict[fx.Node, None] = {}
        nodes = trace.graph.graph.nodes
        inputs = [n for n in nodes if n.op == "placeholder"]
        s, k = trace.states, len(trace.names)
        self.tensors = inputs[1 + s : 1 + s + k]
        columns = dict(zip(
            [*inputs[: 1 + s], *inputs[1 + s + k :]],
            ["x", *(f"s{i}" for i in range(s)), "g", *(f"q{i}" for i in range(s))], strict=False,
        ))  # fmt: skip
        for n in inputs:
            self.kind[n] = INSIDE if n in columns else BEFORE
            if n in columns:
                self.values[n] = self.e.input(columns[n])
        (output,) = (n for n in nodes if n.op == "output")
        self.outputs: list[fx.Node | None] = list(output.args[0])
        self.needed = self._ancestors([n for n in self.outputs if n is not None])

    def _ancestors(self, roots: list[fx.Node]) -> set[fx.Node]:
        seen: set[fx.Node] = set()
        stack = list(roots)
        while stack:
            n = stack.pop()
            if n not in seen:
                seen.add(n)
                if filled_with(n) is None:  # a filled tensor only borrows a shape
                    stack.extend(n.all_input_nodes)
        return seen

    def classify(self) -> None:
        for n in self.trace.graph.graph.nodes:
            if isinstance(n.target, torch._ops.OpOverload) and n.target._schema.is_mutable:
                raise CannotFuse(f"{n.target} writes in place into the input, the state or the neuron")
            if n not in self.needed or n.op in ("placeholder", "output"):
                continue
            if n.op == "get_attr":
                self.kind[n] = BEFORE
                continue
            if not isinstance(n.target, torch._ops.OpOverload):
                raise CannotFuse(f"no kernel rule for {n.target}")
            if torch.Tag.nondeterministic_seeded in n.target.tags:
                raise CannotFuse(f"{n.target} draws random numbers")
            if filled_with(n) is not None:
                self.kind[n] = FILLED
                continue
            kinds = {self.kind[a] for a in n.all_input_nodes}
            if AFTER in kinds:
                self.kind[n] = self._after(n)
            elif INSIDE not in kinds:
                self.kind[n] = BEFORE
            elif self._is_column(n):
                self.kind[n] = INSIDE
                self.values[n] = lower(self.e, n, {a: self.value(a) for a in n.all_input_nodes})
            else:
                self.kind[n] = self._after(n)

    def _is_column(self, n: fx.Node) -> bool:
        val = n.meta.get("val")
        if not isinstance(val, torch.Tensor) or val.shape != self.shape:
            return False
        packet = getattr(n.target, "overloadpacket", None)
        if packet in UNCHANGED and n.args[0].meta["val"].shape != self.shape:  # pyright: ignore
            return False
        if packet is aten.sum:
            return False
        if not has_rule(n):
            raise CannotFuse(f"no kernel rule for {n.target}")
        return True

    def _after(self, n: fx.Node) -> str:
        packet = getattr(n.target, "overloadpacket", None)
        varying = [a for a in n.all_input_nodes if self.kind[a] in (INSIDE, AFTER)]
        linear = packet in _LINEAR or (packet is aten.mul and len(varying) == 1)
        linear = linear or (packet is aten.div and varying == [n.args[0]] and len(n.args) == 2)
        linear = linear or (packet is aten.where and varying and n.args[0] not in varying)
        if packet in (aten.add, aten.sub, aten.where):
            others = [a for a in n.args[-2:] if a not in varying]
            linear = linear and all(isinstance(a, fx.Node) and filled_with(a) == 0 for a in others)
        if not linear or not self.trace.training:
            raise CannotFuse(f"{n.target} leaves the elements of one step: only pointwise operations can be fused")
        for a in varying:
            if self.kind[a] == INSIDE:
                self.sums.setdefault(a)
        return AFTER

    def value(self, n: fx.Node) -> Value:
        """The kernel's value of a node: inside it, or a leaf from before it."""
        if n not in self.values:
            number = filled_with(n)
            if self.kind[n] == AFTER:
                raise CannotFuse("the elements of one step are mixed (a reduction or a change of shape)")
            self.values[n] = self._leaf(n) if number is None else self.e.constant(number)
        return self.values[n]

    def _leaf(self, n: fx.Node) -> Value:
        source = n
        while getattr(source.target, "overloadpacket", None) in (aten.expand, aten.detach, aten.alias):
            source = source.args[0]
            assert isinstance(source, fx.Node)
        val = source.meta["val"] if "val" in source.meta else getattr(self.trace.graph, str(source.target))
        if not (val.is_floating_point() or val.dtype == torch.bool) or val.is_complex():
            raise CannotFuse(f"a tensor of {val.dtype} meets the input")
        if source not in self.leaf_nodes:
            self.leaf_nodes.append(source)
            self.leaves.append(Leaf(f"p{len(self.leaves)}", val.numel() == 1))
        return self.e.input(self.leaves[self.leaf_nodes.index(source)].name, val.dtype == torch.bool)

    def outcome(self, n: fx.Node | None, what: str) -> Value:
        if n is None:
            return self.e.constant(0)
        val = n.meta.get("val")
        if val is None or val.shape != self.shape or val.dtype != self.dtype:
            form = "a constant" if val is None else f"{tuple(val.shape)} {val.dtype}"
            raise CannotFuse(f"{what} is {form}, the input {tuple(self.shape)} {self.dtype}")
        return self.e.number(self.value(n))

    def extract(self, inputs: list[fx.Node], outputs: list[fx.Node]) -> fx.Graph:
        """The part of the graph from `inputs` and the neuron's tensors to the list of `outputs`."""
        graph, done = fx.Graph(), {}
        for n in [*inputs, *self.tensors]:
            done[n] = graph.placeholder(n.name)

        wanted = self._ancestors(outputs)
        for n in self.trace.graph.graph.nodes:
            if n in done or n not in wanted:
                continue
            if filled_with(n) is not None:
                val = n.meta["val"]
                done[n] = graph.call_function(
                    torch.full, (tuple(val.shape), filled_with(n)), {"dtype": val.dtype, "device": val.device}
                )
            elif self.kind[n] != INSIDE:
                done[n] = graph.node_copy(n, lambda a: done[a])
        graph.output([done[n] for n in outputs])
        graph.eliminate_dead_code()
        return graph


def _read(graph: fx.Graph, first: int) -> set[int]:
    """Which of the tensors (placeholders from number `first` on) a graph reads."""
    return {i for i, n in enumerate(_placeholders(graph)[first:]) if n.users}


def _placeholders(graph: fx.Graph) -> list[fx.Node]:
    return [n for n in graph.nodes if n.op == "placeholder"]


def _module(trace: Trace, graph: fx.Graph, first: int, used: list[int]) -> fx.GraphModule:
    for i, n in enumerate(_placeholders(graph)[first:]):
        if i not in used:
            graph.erase_node(n)
    return fx.GraphModule(trace.graph, graph)


def divide(trace: Trace, step_shape: tuple[int, ...], dtype: torch.dtype) -> Parts:
    """Divide a trace. Raises `CannotFuse` where the elements of a step do not stay apart or an operation is unknown."""
    d = _Divider(trace, step_shape, dtype)
    d.classify()
    states = trace.states
    spike = d.outcome(d.outputs[0], "the spike")
    new = [d.outcome(n, f"state {i}") for i, n in enumerate(d.outputs[1 : 1 + states])]
    gx: Value | None = None
    gstates: list[Value] = []
    sums: list[Value] = []
    graded: list[int] = []
    after = None
    if trace.training:
        rest = d.outputs[1 + states :]
        gx = d.outcome(rest[0], "the gradient of x")
        gstates = [d.outcome(n, "the gradient of a state") for n in rest[1 : 1 + states]]
        targets = {i: n for i, n in enumerate(rest[1 + states :]) if n is not None}
        for n in targets.values():
            if d.kind[n] == INSIDE:
                d.sums.setdefault(n)
        targets = {i: n for i, n in targets.items() if d.kind[n] in (INSIDE, AFTER)}
        graded, sums = list(targets), [d.outcome(n, "a gradient") for n in d.sums]
        after = d.extract(list(d.sums), list(targets.values()))
    before = d.extract([], d.leaf_nodes)
    read = _read(before, 0) | set(graded) | (_read(after, len(d.sums)) if after is not None else set())
    used = sorted(read)
    return Parts(
        _module(trace, before, 0, used), None if after is None else _module(trace, after, len(d.sums), used),
        d.leaves, used, spike, new, gx, gstates, sums, graded,
    )  # fmt: skip
