"""State that is carried explicitly, or not at all.

A stateful module (neuron, delay line, token shift, ...) starts every call from its initial state. Only inside
`with carry(net) as memory:` do consecutive calls of `net` continue where the last one ended. Nobody has to remember a
reset, and nothing is left behind when the block ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from ranvier.errors import ArgumentError, StateError

State = tuple[Tensor, ...]


class Memory:
    """The carried state of one net: a mapping from (module name, call number) to a tuple of tensors.

    A module that is called several times in one forward pass keeps one state for each of its calls.
    """

    def __init__(self) -> None:
        self.states: dict[tuple[str, int], State] = {}
        self._calls: dict[str, int] = {}
        self._in_pass = False

    def begin(self, *_: object) -> None:
        """Mark the start of a forward pass of the net (a forward pre-hook)."""
        self._calls.clear()
        self._in_pass = True

    def end(self, *_: object) -> None:
        """Mark its end (a forward hook): a part of the net called on its own from now on continues its first stream."""
        self._calls.clear()
        self._in_pass = False

    def recall(self, name: str) -> State | None:
        """The state that call number n of module `name` left behind in the previous pass."""
        return self.states.get((name, self._calls.get(name, 0)))

    def remember(self, name: str, state: State) -> None:
        """Keep `state` for the next pass and count this call."""
        call = self._calls.get(name, 0)
        self.states[name, call] = state
        if self._in_pass:
            self._calls[name] = call + 1

    def reset(self) -> None:
        """Forget everything: the next call starts a new sequence."""
        self.states.clear()
        self._calls.clear()

    def detach(self) -> Memory:
        """Cut the graph between the past and the future (truncated backpropagation through time); returns itself."""
        self.map(Tensor.detach)
        return self

    def clone(self) -> Memory:
        """An independent copy, for branching a stream."""
        other = Memory()
        other.states = {key: tuple(t.clone() for t in state) for key, state in self.states.items()}
        return other

    def __deepcopy__(self, _: dict[int, Any]) -> Memory:
        return self.clone().detach()  # a copied net does not share the stream, nor its graph

    def __getstate__(self) -> dict[str, Any]:
        return self.clone().detach().__dict__

    def map(self, function: Callable[[Tensor], Tensor]) -> None:
        """Apply `function` to every tensor in place (move to a device, cast, select batch rows, ...)."""
        self.states = {key: tuple(function(t) for t in state) for key, state in self.states.items()}

    @property
    def nbytes(self) -> int:
        """Bytes that the carried state occupies."""
        return sum(t.numel() * t.element_size() for state in self.states.values() for t in state)

    def __len__(self) -> int:
        return len(self.states)


class Stateful(nn.Module):
    """Mixin for modules with state. In `forward`: `state = self.recall()`, compute, `self.remember(state)`."""

    # (memory, name in the carried net) while a `carry` block is open, else None.
    _carried: tuple[Memory, str] | None = None
    # How the rows of packed data belong to sequences (`ranvier.packing`) while such data passes, else None.
    _packing: Any = None

    @property
    def packs(self) -> bool:
        """Whether its `forward` looks at `_packing`, so that sequences of different lengths may share a batch."""
        return False

    def recall(self) -> State | None:
        """The state to continue from, or None at the start of a sequence."""
        if self._carried is None:
            return None
        memory, name = self._carried
        return memory.recall(name)

    def remember(self, state: State) -> None:
        """Hand the final state to the memory, if one is open."""
        if self._carried is not None:
            memory, name = self._carried
            memory.remember(name, state)

    def fits(self, state: State, expected: State) -> State:
        """`state` if its shapes are those of `expected`, else a `StateError` that says what to do."""
        for carried, fresh in zip(state, expected, strict=True):
            if carried.shape != fresh.shape:
                name = self._carried[1] if self._carried else type(self).__name__
                raise StateError(
                    f"layer {name!r} carries state of shape {tuple(carried.shape)} but this input needs "
                    f"{tuple(fresh.shape)}; keep the batch and feature shape of the stream, or call memory.reset() "
                    "before a new one"
                )
        return state

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        state.pop("_carried", None)
        state.pop("_packing", None)
        return state


@contextmanager
def carry(net: nn.Module, memory: Memory | None = None) -> Iterator[Memory]:
    """Carry the state of `net` from call to call inside the block.

    Args:
        net: any module; every `Stateful` module in it takes part.
        memory: a memory from an earlier block, to continue that stream.

    Yields the `Memory`. Blocks may be nested; the inner one has its own stream. Gradients flow through carried state
    unless `memory.detach()` is called.
    """
    if not isinstance(net, nn.Module):
        raise ArgumentError(f"carry needs a torch.nn.Module, got {type(net).__name__}")
    memory = Memory() if memory is None else memory
    modules = [(name, module) for name, module in net.named_modules() if isinstance(module, Stateful)]
    previous = [module._carried for _, module in modules]
    hooks = [
        net.register_forward_pre_hook(memory.begin),  # bound methods, so that the net can be copied and pickled
        net.register_forward_hook(memory.end, always_call=True),
    ]
    for name, module in modules:
        module._carried = (memory, name)
    try:
        yield memory
    finally:
        for hook in hooks:
            hook.remove()
        for (_, module), before in zip(modules, previous, strict=True):
            module._carried = before


def stream(net: nn.Module, x: Any, memory: Memory | None = None) -> tuple[Any, Memory]:
    """Functional form of `carry`: the output for chunk `x` and the memory after it; `memory` itself is unchanged."""
    after = Memory()
    if memory is not None:
        after.states = dict(memory.states)
    with carry(net, after):
        return net(x), after
