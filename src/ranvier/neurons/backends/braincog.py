"""Neurons of BrainCog (`braincog.base.node`), called step by step."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError, MissingExtraError, nearest
from ranvier.neurons.backends.foreign import ForeignNeuron, library, only
from ranvier.neurons.backends.spikingjelly import above_one
from ranvier.neurons.leaky import Reset
from ranvier.registry import check_keywords
from ranvier.state import State
from ranvier.surrogates import Atan, Sigmoid, Surrogate, Triangle

PACKAGE = "braincog"
_NODES, _SURROGATES = "braincog.base.node.node", "braincog.base.strategy.surrogate"


def _room(module: str) -> ModuleType:
    """A module of BrainCog. Its packages import its model zoo, and that torchvision; the nodes need neither."""
    try:
        return importlib.import_module(module)
    except ImportError:
        return _alone(module)


def _alone(module: str) -> ModuleType:
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        return library(PACKAGE, PACKAGE)
    packages = (PACKAGE, "braincog.base", "braincog.base.node", "braincog.base.strategy")
    before = {name: sys.modules.get(name) for name in packages}
    root = Path(next(iter(found.submodule_search_locations))).parent
    try:
        for name in packages:
            empty = ModuleType(name)
            empty.__path__ = [str(root.joinpath(*name.split(".")))]
            sys.modules[name] = empty
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(f"the neurons of BrainCog need a package that is missing: {error}") from error
    finally:  # nobody else meets the empty packages
        for name, kept in before.items():
            if kept is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = kept


class _Surrogate(nn.Module):
    """A surrogate of ours where BrainCog has none of that shape."""

    def __init__(self, surrogate: Surrogate) -> None:
        super().__init__()
        self.surrogate = surrogate

    def forward(self, x: Tensor) -> Tensor:
        return self.surrogate(x)


def surrogate_of(surrogate: Surrogate) -> nn.Module:
    """BrainCog's own surrogate of the same derivative, or a wrapper around ours."""
    theirs: Any = _room(_SURROGATES)
    made: dict[type[Surrogate], Callable[[Any], nn.Module]] = {
        Sigmoid: lambda s: theirs.SigmoidGrad(alpha=float(s.alpha), requires_grad=False),
        Atan: lambda s: theirs.AtanGrad(alpha=float(s.alpha), requires_grad=False),
        Triangle: lambda s: theirs.QGateGrad(alpha=float(s.alpha), requires_grad=False),
    }
    return made.get(type(surrogate), _Surrogate)(surrogate)


class BrainCogNeuron(ForeignNeuron):
    """Any neuron of BrainCog whose state is its membrane, by its own name and with its own arguments.

    `neuron={"type": "braincog", "neuron": "LIFNode", "arguments": {"tau": 4.0}}`.

    Args:
        neuron: a class of `braincog.base.node.node`.
        arguments: of that class, without `act_fun`.
        threshold: where a model sets it for one layer.
        surrogate: of Ranvier; BrainCog's own of the same derivative is used where it has one.

    Raises `ArgumentError` for an unknown neuron or argument.
    """

    def __init__(
        self,
        neuron: str = "LIFNode",
        arguments: Mapping[str, Any] | None = None,
        threshold: float | None = None,
        surrogate: str | dict[str, Any] | Surrogate = "sigmoid",
    ) -> None:
        super().__init__(surrogate)
        room: Any = _room(_NODES)
        kind = getattr(room, neuron, None) if isinstance(neuron, str) else None
        if not (isinstance(kind, type) and issubclass(kind, room.BaseNode)):
            known = [name for name in dir(room) if name.endswith("Node")]
            raise ArgumentError(f"BrainCog has no neuron {neuron!r}{nearest(str(neuron), known)}")
        given = dict(arguments or {})
        if threshold is not None:
            given["threshold"] = float(threshold)
        check_keywords(kind, given, f"BrainCog's {neuron}")
        self.peer = kind(**given)
        self.peer.act_fun = surrogate_of(self.surrogate)

    def clear(self) -> None:
        self.peer.n_reset()

    def initial_state(self, like: Tensor) -> State:
        work = torch.float32 if like.dtype in (torch.float16, torch.bfloat16) else like.dtype
        return (torch.full_like(like, float(self.peer.v_reset or 0.0), dtype=work),)

    def read(self) -> State:
        return (self.peer.mem,)

    def write(self, state: State) -> None:
        self.peer.mem = state[0]

    def advance(self, x_t: Tensor) -> Tensor:
        return self.peer(x_t)


class BrainCogIF(BrainCogNeuron):
    """`IFNode` with the arguments of `ranvier.neurons.IF`."""

    stands_for: ClassVar[str] = "IF"

    def __init__(
        self,
        threshold: float = 1.0,
        v_reset: float = 0.0,
        reset: Reset = "hard",
        detach_reset: bool = True,
        surrogate: str | dict[str, Any] | Surrogate = "sigmoid",
    ) -> None:
        _resets(v_reset, reset, detach_reset)
        super().__init__("IFNode", {"threshold": float(threshold)}, surrogate=surrogate)


class BrainCogLIF(BrainCogNeuron):
    """`LIFNode` with the arguments of `ranvier.neurons.LIF` (BrainCog's own defaults differ: θ = 0.5, QGate)."""

    stands_for: ClassVar[str] = "LIF"
    node: ClassVar[str] = "LIFNode"

    def __init__(
        self,
        tau: float = 2.0,
        threshold: float = 1.0,
        v_reset: float = 0.0,
        reset: Reset = "hard",
        detach_reset: bool = True,
        decay_input: bool = True,
        surrogate: str | dict[str, Any] | Surrogate = "sigmoid",
    ) -> None:
        _resets(v_reset, reset, detach_reset)
        only("decay_input", decay_input, True, "BrainCog divides the input by τ")
        super().__init__(self.node, {"tau": above_one(tau), "threshold": float(threshold)}, surrogate=surrogate)


class BrainCogPLIF(BrainCogLIF):
    """`PLIFNode` with the arguments of `ranvier.neurons.PLIF`; one decay a layer."""

    stands_for: ClassVar[str] = "PLIF"
    node = "PLIFNode"


def _resets(v_reset: float, reset: Reset, detach_reset: bool) -> None:
    only("v_reset", float(v_reset), 0.0, "BrainCog resets to zero")
    only("reset", reset, "hard", "BrainCog has no soft reset")
    only("detach_reset", detach_reset, True, "BrainCog keeps the reset out of the gradient")
