"""Neurons of SpikingJelly (`spikingjelly.activation_based.neuron`), run in its multi-step mode."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError, nearest
from ranvier.neurons.backends.foreign import ForeignNeuron, library
from ranvier.neurons.leaky import Reset
from ranvier.registry import check_keywords
from ranvier.state import State
from ranvier.surrogates import Atan, Rectangle, Sigmoid, Surrogate, Triangle

PACKAGE = "spikingjelly"


def _module(name: str) -> Any:
    return library(f"spikingjelly.activation_based.{name}", PACKAGE)


class _Surrogate(nn.Module):
    """A surrogate of ours where SpikingJelly has none of that shape."""

    def __init__(self, surrogate: Surrogate) -> None:
        super().__init__()
        self.surrogate = surrogate

    def forward(self, x: Tensor) -> Tensor:
        return self.surrogate(x)


def surrogate_of(surrogate: Surrogate) -> nn.Module:
    """SpikingJelly's own surrogate of the same derivative, or a wrapper around ours."""
    theirs = _module("surrogate")
    made: dict[type[Surrogate], Callable[[Any], nn.Module]] = {
        Sigmoid: lambda s: theirs.Sigmoid(alpha=float(s.alpha)),
        Atan: lambda s: theirs.ATan(alpha=float(s.alpha)),
        Triangle: lambda s: theirs.PiecewiseQuadratic(alpha=float(s.alpha)),
        Rectangle: lambda s: theirs.Rect(alpha=1.0 / s.width),
    }
    return made.get(type(surrogate), _Surrogate)(surrogate)


class SpikingJellyNeuron(ForeignNeuron):
    """Any neuron of SpikingJelly by its own name and with its own arguments.

    `neuron={"type": "spikingjelly", "neuron": "LIFNode", "arguments": {"tau": 4.0}}`.

    Args:
        neuron: a class of `spikingjelly.activation_based.neuron`.
        arguments: of that class, without the surrogate and the step mode.
        threshold: `v_threshold`, where a model sets it for one layer.
        surrogate: of Ranvier; SpikingJelly's own of the same derivative is used where it has one.

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
        room = _module("neuron")
        kind = getattr(room, neuron, None) if isinstance(neuron, str) else None
        if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
            known = [name for name in dir(room) if name.endswith(("Node", "PSN"))]
            raise ArgumentError(f"SpikingJelly has no neuron {neuron!r}{nearest(str(neuron), known)}")
        given = dict(arguments or {})
        if threshold is not None:
            given["v_threshold"] = float(threshold)
        check_keywords(kind, given, f"SpikingJelly's {neuron}")
        try:
            self.peer = kind(surrogate_function=surrogate_of(self.surrogate), step_mode="m", **given)
        except TypeError:  # a neuron that knows whole sequences only has no mode
            try:
                self.peer = kind(surrogate_function=surrogate_of(self.surrogate), **given)
            except TypeError as error:
                raise ArgumentError(f"SpikingJelly's {neuron} does not take {given!r}: {error}") from error
        self.streams = hasattr(self.peer, "_memories")
        self.state_names = tuple(getattr(self.peer, "_memories", {}))

    def clear(self) -> None:
        if hasattr(self.peer, "reset"):
            self.peer.reset()

    def initial_state(self, like: Tensor) -> State:
        self.clear()
        work = torch.float32 if like.dtype in (torch.float16, torch.bfloat16) else like.dtype
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


class _Membrane(SpikingJellyNeuron):
    """What SpikingJelly's neurons with a membrane take, in Ranvier's words."""

    node: ClassVar[str] = ""

    def _build(
        self, threshold: float, v_reset: float, reset: Reset, detach_reset: bool,
        surrogate: str | dict[str, Any] | Surrogate, **more: Any,
    ) -> None:  # fmt: skip
        if reset not in ("hard", "soft"):
            raise ArgumentError(f"reset must be 'hard' or 'soft', got {reset!r}")
        arguments = {
            "v_threshold": float(threshold), "v_reset": float(v_reset) if reset == "hard" else None,
            "detach_reset": detach_reset, **more,
        }  # fmt: skip
        SpikingJellyNeuron.__init__(self, self.node, arguments, surrogate=surrogate)


class SpikingJellyIF(_Membrane):
    """`IFNode` with the arguments of `ranvier.neurons.IF`."""

    node = "IFNode"
    stands_for: ClassVar[str] = "IF"

    def __init__(
        self,
        threshold: float = 1.0,
        v_reset: float = 0.0,
        reset: Reset = "hard",
        detach_reset: bool = True,
        surrogate: str | dict[str, Any] | Surrogate = "sigmoid",
    ) -> None:
        self._build(threshold, v_reset, reset, detach_reset, surrogate)


class SpikingJellyLIF(_Membrane):
    """`LIFNode` with the arguments of `ranvier.neurons.LIF`; τ > 1."""

    node = "LIFNode"
    stands_for: ClassVar[str] = "LIF"

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
        self._build(
            threshold, v_reset, reset, detach_reset, surrogate, tau=above_one(tau), decay_input=decay_input
        )  # fmt: skip


class SpikingJellyPLIF(_Membrane):
    """`ParametricLIFNode` with the arguments of `ranvier.neurons.PLIF`; one decay a layer."""

    node = "ParametricLIFNode"
    stands_for: ClassVar[str] = "PLIF"

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
        self._build(
            threshold, v_reset, reset, detach_reset, surrogate, init_tau=above_one(tau), decay_input=decay_input
        )  # fmt: skip


class SpikingJellyKLIF(_Membrane):
    """`KLIFNode` (the scaled membrane is reset) with the arguments of `ranvier.neurons.KLIF`; one factor a layer."""

    node = "KLIFNode"
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
        self._build(
            threshold, v_reset, reset, detach_reset, surrogate, tau=above_one(tau), scale_reset=False
        )  # fmt: skip
        with torch.no_grad():
            self.peer.k.fill_(k)


def above_one(tau: float) -> float:
    """τ as the other libraries need it: a plain number above one."""
    if isinstance(tau, bool) or not isinstance(tau, int | float) or not tau > 1:
        raise ArgumentError(f"tau must be a number > 1 with this backend, got {tau!r}")
    return float(tau)
