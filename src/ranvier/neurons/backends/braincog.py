"""Neurons of BrainCog (`braincog.base.node`), called step by step."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from ranvier.errors import MissingExtraError
from ranvier.neurons.backends.foreign import ForeignNeuron, OurSurrogate, library
from ranvier.neurons.backends.stand_in import LikeIF, LikeLIF, only, only_hard_reset_to_zero
from ranvier.neurons.leaky import Reset
from ranvier.neurons.neuron import _work_dtype
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


def surrogate_of(surrogate: Surrogate) -> nn.Module:
    """BrainCog's own surrogate of the same derivative, or a wrapper around ours."""
    theirs: Any = _room(_SURROGATES)
    made: dict[type[Surrogate], Callable[[Any], nn.Module]] = {
        Sigmoid: lambda s: theirs.SigmoidGrad(alpha=float(s.alpha), requires_grad=False),
        Atan: lambda s: theirs.AtanGrad(alpha=float(s.alpha), requires_grad=False),
        Triangle: lambda s: theirs.QGateGrad(alpha=float(s.alpha), requires_grad=False),
    }
    return made.get(type(surrogate), OurSurrogate)(surrogate)


class BrainCogNeuron(ForeignNeuron):
    """Any neuron of BrainCog whose state is its membrane, by its own name and arguments; see `ForeignNeuron`.

    `neuron={"type": "braincog", "neuron": "LIFNode", "arguments": {"tau": 4.0}}`: a class of
    `braincog.base.node.node`, without its `act_fun`.
    """

    title = "BrainCog"
    usual = "LIFNode"

    def kinds(self) -> dict[str, type[nn.Module]]:
        room: Any = _room(_NODES)
        found = vars(room).items()
        return {name: kind for name, kind in found if isinstance(kind, type) and issubclass(kind, room.BaseNode)}

    def made(self, kind: type[nn.Module], given: dict[str, Any]) -> nn.Module:
        peer: Any = kind(**given)
        peer.act_fun = surrogate_of(self.surrogate)
        return peer

    def resetting(self, threshold: float, v_reset: float, reset: Reset, detach_reset: bool) -> dict[str, Any]:
        only_hard_reset_to_zero(v_reset, reset, detach_reset, "BrainCog", "has no soft reset")
        return {"threshold": float(threshold)}

    def clear(self) -> None:
        self.peer.n_reset()

    def initial_state(self, like: Tensor) -> State:
        return (torch.full_like(like, float(self.peer.v_reset or 0.0), dtype=_work_dtype(like)),)

    def read(self) -> State:
        return (self.peer.mem,)

    def write(self, state: State) -> None:
        self.peer.mem = state[0]

    def advance(self, x_t: Tensor) -> Tensor:
        return self.peer(x_t)


class BrainCogIF(LikeIF, BrainCogNeuron):
    """`IFNode` with the arguments of `ranvier.neurons.IF`."""

    node = "IFNode"


class BrainCogLIF(LikeLIF, BrainCogNeuron):
    """`LIFNode` with the arguments of `ranvier.neurons.LIF` (BrainCog's own defaults differ: θ = 0.5, QGate)."""

    node = "LIFNode"

    def leak(self, tau: float, decay_input: bool) -> dict[str, Any]:
        only("decay_input", decay_input, True, "BrainCog divides the input by τ")
        return {"tau": tau}


class BrainCogPLIF(BrainCogLIF):
    """`PLIFNode` with the arguments of `ranvier.neurons.PLIF`; one decay a layer."""

    node = "PLIFNode"
    stands_for = "PLIF"
