"""One step of a net as a list of operations on storages, recorded while it runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module
from torch.utils import _pytree as tree
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from ranvier.errors import ArgumentError
from ranvier.infer.convert import _give_counts, _take_values
from ranvier.infer.spike_synapse import SpikeSynapse
from ranvier.layers import DelayLinear, LeakyReadout
from ranvier.layers.delays import DenseDelayLinear
from ranvier.layers.dropout import SequenceDropout
from ranvier.layers.quant import IntSynapse, QuantSynapse
from ranvier.neurons.conversion import QCFSIF
from ranvier.neurons.leaky import IntegerLIF, LeakyNeuron
from ranvier.state import Stateful


class NotCompilableError(ArgumentError):
    """A net has parts that the engine has no instructions for."""


@dataclass(frozen=True)
class Ref:
    """A tensor that depends on the input: a strided view of a storage."""

    storage: int
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass
class Node:
    """One operation. `op` is an ATen name, "leaf:…" for a module that is taken whole; tensors among `args` are `Ref`s,
    or plain tensors where they do not depend on the input."""

    op: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    out: Ref
    where: str
    module: nn.Module | None = None


@dataclass
class Trace:
    """What was recorded. `sizes` has the elements of every storage, `problems` what cannot be compiled, by place."""

    input: Ref
    output: Ref
    nodes: list[Node]
    sizes: dict[int, int]
    problems: dict[str, str] = field(default_factory=dict[str, str])


LEAVES = (LeakyNeuron, DelayLinear, DenseDelayLinear, LeakyReadout, QuantSynapse, IntSynapse, SpikeSynapse)
_WHOLE = (Stateful, QuantSynapse, IntSynapse, SpikeSynapse)


class _Recorder(TorchDispatchMode):
    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # keeping it out would import the compiler, which takes seconds

    def __init__(self, names: dict[int, str]) -> None:
        super().__init__()
        self.names = names
        self.places: list[tuple[str, str]] = []
        self.alive: list[Tensor] = []  # a storage that is freed could come back at the same address
        self.known: dict[int, int] = {}  # address to number
        self.sizes: dict[int, int] = {}
        self.nodes: list[Node] = []
        self.problems: dict[str, str] = {}

    def ref(self, t: Tensor) -> Ref | None:
        number = self.known.get(t.untyped_storage().data_ptr()) if t.numel() else None
        return None if number is None else Ref(number, int(t.storage_offset()), tuple(t.shape), tuple(t.stride()))

    def new(self, t: Tensor) -> Ref:
        self.alive.append(t)
        number = len(self.sizes)
        self.known[t.untyped_storage().data_ptr()] = number
        self.sizes[number] = t.untyped_storage().nbytes() // t.element_size()
        found = self.ref(t)
        assert found is not None
        return found

    def place(self) -> str:
        return f"{self.places[-1][0] or 'the model'} ({self.places[-1][1]})" if self.places else "the model"

    def problem(self, what: str, where: str | None = None) -> None:
        where = self.place() if where is None else where
        before = self.problems.get(where, "")
        if what not in before.split(", "):
            self.problems[where] = f"{before}, {what}" if before else what

    def record(self, op: str, args: Any, kwargs: dict[str, Any], out: Tensor, module: nn.Module | None = None) -> None:
        swapped = tree.tree_map_only(Tensor, lambda t: self.ref(t) or t, (tuple(args), kwargs))
        self.nodes.append(Node(op, swapped[0], swapped[1], self.new(out), self.place(), module))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        made = func(*args, **kwargs)
        given = [t for t in tree.tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        self.alive += given
        if not any(self.ref(t) for t in given):
            return made
        name = str(func.overloadpacket)
        outs = [t for t in tree.tree_leaves(made) if isinstance(t, Tensor)]
        if name == "aten._local_scalar_dense":
            self.problem("a branch that depends on values")
            return made
        if func._schema.is_mutable:
            self.problem(name.replace("aten.", "") + " in place")
            return made
        if not outs or all(t.numel() == 0 or self.ref(t) is not None for t in outs):
            return made  # a view
        if name in ("aten.empty_like", "aten.zeros_like", "aten.ones_like", "aten.full_like", "aten.new_zeros",
                    "aten.new_empty", "aten.new_full", "aten.new_ones"):  # fmt: skip
            self.alive += outs
            return made  # values that do not depend on the input
        self.record(name, args, kwargs, outs[0])
        for other in outs[1:]:
            if other.numel():
                self.alive.append(other)  # statistics and indices that nothing may use
        return made


def trace(model: nn.Module, x: Tensor) -> Trace:
    """Record `model` on one step `[1, 1, ...]` of input. What cannot be compiled is in `problems`."""
    names = {id(m): n for n, m in model.named_modules()}
    recorder = _Recorder(names)
    x = x.clone()
    with torch.no_grad(), _leaves(model, recorder), _places(recorder):
        entry = recorder.new(x)
        with recorder:
            y = model(x)
    if not isinstance(y, Tensor):
        raise NotCompilableError(f"model must return one tensor, got {type(y).__name__}")
    out = recorder.ref(y)
    if out is None:
        if not recorder.problems:
            raise NotCompilableError("model: its output does not depend on its input")
        out = entry
    return Trace(entry, out, recorder.nodes, recorder.sizes, recorder.problems)


@contextmanager
def _places(recorder: _Recorder) -> Iterator[None]:
    """Keeps track of the module that is running."""

    def enter(module: nn.Module, _: Any) -> None:
        recorder.places.append((recorder.names.get(id(module), ""), type(module).__name__))

    def leave(module: nn.Module, _: Any, __: Any) -> None:
        recorder.places.pop()

    handles = [
        torch_module.register_module_forward_pre_hook(enter),
        torch_module.register_module_forward_hook(leave, always_call=True),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _leaves(model: nn.Module, recorder: _Recorder) -> Iterator[None]:
    """Lets modules with state, and those with integer weights, be recorded as one operation each."""
    taken: list[nn.Module] = []
    hooks: list[tuple[Any, Any]] = []
    inside: list[nn.Module] = []

    def whole(module: nn.Module) -> Any:
        original = module.forward

        def forward(*args: Any, **kwargs: Any) -> Any:
            if inside:
                return original(*args, **kwargs)
            inside.append(module)
            try:
                with _disable_current_modes():
                    made = original(*args, **kwargs)
                    made = made.clone() if isinstance(made, Tensor) else made
            finally:
                inside.pop()
            what = unsupported(module)
            if what:
                recorder.problem(what)
            if not isinstance(made, Tensor):
                recorder.problem("more than one output")
            elif recorder.ref(args[0]) is not None:
                recorder.record("leaf", args, kwargs, made, module)
            else:
                recorder.alive.append(made)
            return made

        return forward

    for module in model.modules():
        if isinstance(module, SequenceDropout) or not isinstance(module, _WHOLE):
            continue  # a mask does nothing in evaluation
        for table in (module._forward_hooks, module._forward_pre_hooks):
            for key, hook in list(table.items()):
                if hook in (_give_counts, _take_values):  # a converted net: counts stay numbers here
                    hooks.append((table, (key, table.pop(key))))
        module.__dict__["forward"] = whole(module)
        taken.append(module)
    try:
        yield
    finally:
        for module in taken:
            del module.__dict__["forward"]
        for table, (key, hook) in hooks:
            table[key] = hook


def unsupported(module: nn.Module) -> str | None:
    """Why a module with state cannot be compiled, or None."""
    if isinstance(module, LeakyNeuron):
        plain = type(module).step is LeakyNeuron.step or isinstance(module, IntegerLIF | QCFSIF)
        return None if plain else "a neuron with equations of its own"
    if isinstance(module, DelayLinear | DenseDelayLinear):
        if module.tail:
            return f"tail={module.tail}: a stream has no end, set tail = 0"
        if isinstance(module, DelayLinear) and not module.whole:
            return "delays that are not whole steps"
        return None
    return None if isinstance(module, LEAVES) else "no instructions for it"
