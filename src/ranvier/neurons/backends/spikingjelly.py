"""Neurons of SpikingJelly (`spikingjelly.activation_based.neuron`), run in its multi-step mode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError
from ranvier.neurons.backends.foreign import ForeignNeuron, OurSurrogate, library
from ranvier.neurons.backends.stand_in import LikeIF, LikeLIF, above_one
from ranvier.neurons.leaky import Reset
from ranvier.neurons.neuron import _work_dtype
from ranvier.state import State
from ranvier.surrogates import Atan, Rectangle, Sigmoid, Surrogate, Triangle

PACKAGE = "spikingjelly"


def _module(name: str) -> Any:
    return library(f"spikingjelly.activation_based.{name}", PACKAGE)


def surrogate_of(surrogate: Surrogate) -> nn.Module:
    """SpikingJelly's own surrogate of the same derivative, or a wrapper around ours."""
    theirs = _module("surrogate")
    made: dict[type[Surrogate], Callable[[Any], nn.Module]] = {
        Sigmoid: lambda s: theirs.Sigmoid(alpha=float(s.alpha)),
        Atan: lambda s: theirs.ATan(alpha=float(s.alpha)),
        Triangle: lambda s: theirs.PiecewiseQuadratic(alpha=float(s.alpha)),
        Rectangle: lambda s: theirs.Rect(alpha=1.0 / s.width),
    }
    return made.get(type(surrogate), OurSurrogate)(surrogate)


class SpikingJellyNeuron(ForeignNeuron):
    """Any neuron of SpikingJelly by its own name and with its own arguments; see `ForeignNeuron`.

    `neuron={"type": "spikingjelly", "neuron": "LIFNode", "arguments": {"tau": 4.0}}`: a class of
    `spikingjelly.activation_based.neuron`, without its surrogate and step mode.
    """

    title = "SpikingJelly"
    usual = "LIFNode"
    threshold_name = "v_threshold"

    def kinds(self) -> dict[str, type[nn.Module]]:
        found = vars(_module("neuron")).items()
        return {name: kind for name, kind in found if isinstance(kind, type) and issubclass(kind, nn.Module)}

    def made(self, kind: type[nn.Module], given: dict[str, Any]) -> nn.Module:
        surrogate = surrogate_of(self.surrogate)
        try:
            peer = kind(surrogate_function=surrogate, step_mode="m", **given)
        except TypeError:  # a neuron that knows whole sequences only has no mode
            try:
                peer = kind(surrogate_function=surrogate, **given)
            except TypeError as error:
                raise ArgumentError(f"SpikingJelly's {kind.__name__} does not take {given!r}: {error}") from error
        self.streams = hasattr(peer, "_memories")
        self.state_names = tuple(getattr(peer, "_memories", {}))
        return peer

    def resetting(self, threshold: float, v_reset: float, reset: Reset, detach_reset: bool) -> dict[str, Any]:
        if reset not in ("hard", "soft"):
            raise ArgumentError(f"reset must be 'hard' or 'soft', got {reset!r}")
        v_reset_or_soft = float(v_reset) if reset == "hard" else None
        return {"v_threshold": float(threshold), "v_reset": v_reset_or_soft, "detach_reset": detach_reset}

    def clear(self) -> None:
        if hasattr(self.peer, "reset"):
            self.peer.reset()

    def initial_state(self, like: Tensor) -> State:
        self.clear()
        work = _work_dtype(like)
        state: list[Tensor] = []
        for name, value in self.peer._memories.items():
            if isinstance(value, Tensor):
                state.append(value.to(work).expand_as(like).clone())
            elif isinstance(value, int | float):
                state.append(torch.full_like(like, float(value), dtype=work))
            else:
                raise ArgumentError(f"{type(self.peer).__name__} of SpikingJelly keeps {name!r}, which is no number")
        return tuple(state)

    def read(self) -> State:
        return tuple(self.peer._memories.values())

    def write(self, state: State) -> None:
        for name, value in zip(self.peer._memories, state, strict=True):
            self.peer._memories[name] = value

    def advance(self, x_t: Tensor) -> Tensor:
        return self.peer(x_t.unsqueeze(0))[0]

    def whole(self, x: Tensor) -> Tensor:
        return self.peer(x)


class SpikingJellyIF(LikeIF, SpikingJellyNeuron):
    """`IFNode` with the arguments of `ranvier.neurons.IF`."""

    node = "IFNode"


class SpikingJellyLIF(LikeLIF, SpikingJellyNeuron):
    """`LIFNode` with the arguments of `ranvier.neurons.LIF`; τ > 1."""

    node = "LIFNode"

    def leak(self, tau: float, decay_input: bool) -> dict[str, Any]:
        return {"tau": tau, "decay_input": decay_input}


class SpikingJellyPLIF(LikeLIF, SpikingJellyNeuron):
    """`ParametricLIFNode` with the arguments of `ranvier.neurons.PLIF`; one decay a layer."""

    node = "ParametricLIFNode"
    stands_for = "PLIF"

    def leak(self, tau: float, decay_input: bool) -> dict[str, Any]:
        return {"init_tau": tau, "decay_input": decay_input}


class SpikingJellyKLIF(SpikingJellyNeuron):
    """`KLIFNode` (the scaled membrane is reset) with the arguments of `ranvier.neurons.KLIF`; one factor a layer."""

    stands_for: ClassVar[str] = "KLIF"

    def __init__(
        self,
        tau: float = 2.0,
        k: float = 1.0,
        threshold: float = 1.0,
        v_reset: float = 0.0,
        reset: Reset = "hard",
        detach_reset: bool = True,
        surrogate: str | dict[str, Any] | Surrogate = "sigmoid",
    ) -> None:
        arguments = self.resetting(threshold, v_reset, reset, detach_reset)
        arguments |= {"tau": above_one(tau), "scale_reset": False}
        super().__init__("KLIFNode", arguments, surrogate=surrogate)
        with torch.no_grad():
            self.peer.k.fill_(k)
