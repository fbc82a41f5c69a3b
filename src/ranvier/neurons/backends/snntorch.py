"""Neurons of snnTorch, called step by step as it wants it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from ranvier.errors import ArgumentError, nearest
from ranvier.neurons.backends.foreign import ForeignNeuron, library, only
from ranvier.neurons.backends.spikingjelly import above_one
from ranvier.neurons.leaky import Reset
from ranvier.registry import check_keywords
from ranvier.state import State
from ranvier.surrogates import Atan, Sigmoid, Surrogate

PACKAGE = "snntorch"


def surrogate_of(surrogate: Surrogate) -> Callable[[Tensor], Tensor]:
    """snnTorch's own surrogate of the same derivative (it fires above the threshold, not at it), or ours."""
    theirs = library("snntorch.surrogate", PACKAGE)
    made: dict[type[Surrogate], Callable[[Any], Callable[[Tensor], Tensor]]] = {
        Sigmoid: lambda s: theirs.sigmoid(slope=float(s.alpha)),
        Atan: lambda s: theirs.atan(alpha=float(s.alpha)),
    }
    return made[type(surrogate)](surrogate) if type(surrogate) in made else surrogate


class SnnTorchNeuron(ForeignNeuron):
    """Any neuron of snnTorch by its own name and with its own arguments.

    `neuron={"type": "snntorch", "neuron": "Synaptic", "arguments": {"alpha": 0.8, "beta": 0.9}}`.

    Args:
        neuron: a spiking neuron of `snntorch` whose step is `spikes, *state = neuron(x, *state)`.
        arguments: of that class, without `spike_grad`, `init_hidden` and `output`.
        threshold: where a model sets it for one layer.
        surrogate: of Ranvier; snnTorch's own of the same derivative is used where it has one.

    Raises `ArgumentError` for an unknown neuron or argument.
    """

    def __init__(
        self,
        neuron: str = "Leaky",
        arguments: Mapping[str, Any] | None = None,
        threshold: float | None = None,
        surrogate: str | dict[str, Any] | Surrogate = "sigmoid",
    ) -> None:
        super().__init__(surrogate)
        room = library("snntorch", PACKAGE)
        kind = getattr(room, neuron, None) if isinstance(neuron, str) else None
        if not (isinstance(kind, type) and issubclass(kind, room.SpikingNeuron)):
            known = [name for name, value in vars(room).items() if isinstance(value, type)]
            raise ArgumentError(f"snnTorch has no spiking neuron {neuron!r}{nearest(str(neuron), known)}")
        given = dict(arguments or {})
        if threshold is not None:
            given["threshold"] = float(threshold)
        if kind is room.Leaky and "beta" not in given:
            given["beta"] = 0.5
        check_keywords(kind, given, f"snnTorch's {neuron}")
        self.peer = kind(spike_grad=surrogate_of(self.surrogate), **given)
        self.state_names = tuple(f"state{i}" for i in range(len(self._states())))
        self._state: State | None = None

    def _states(self) -> list[str]:
        """Names of the state in the order in which a step returns it: all buffers that are not persistent."""
        order = ("syn_exc", "syn_inh", "syn", "spk", "mem")
        kept = {name for name, _ in self.peer.named_buffers(recurse=False)} & self.peer._non_persistent_buffers_set
        if not kept <= set(order):
            raise ArgumentError(
                f"snnTorch's {type(self.peer).__name__} keeps state that is not known here: {sorted(kept)}"
            )
        return [name for name in order if name in kept]

    def clear(self) -> None:
        self._state = None
        for name in self._states():  # no graph and no batch is left behind
            buffer: Tensor = getattr(self.peer, name)
            setattr(self.peer, name, buffer.new_zeros(0))

    def initial_state(self, like: Tensor) -> State:
        work = torch.float32 if like.dtype in (torch.float16, torch.bfloat16) else like.dtype
        return tuple(torch.zeros_like(like, dtype=work) for _ in self.state_names)

    def read(self) -> State:
        assert self._state is not None
        return self._state

    def write(self, state: State) -> None:
        self._state = state

    def advance(self, x_t: Tensor) -> Tensor:
        state = self._state if self._state is not None else self.initial_state(x_t)
        spikes, *after = self.peer(x_t, *state)
        self._state = tuple(after)
        return spikes.to(x_t.dtype)


class SnnTorchLIF(SnnTorchNeuron):
    """`Leaky` with the arguments of `ranvier.neurons.LIF`: β = 1 − 1/τ, and the input divided by τ in front of it.

    It resets to zero in the step after the spike, which gives the same spikes; it subtracts after the leak, which does
    not, so that a soft reset has no equal there. The reset is always out of the gradient.
    """

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
        _resets(v_reset, reset, detach_reset)
        self._leaky(1 - 1 / above_one(tau), threshold, surrogate, decay_input)

    def _leaky(
        self, beta: float, threshold: float, surrogate: str | dict[str, Any] | Surrogate, decay_input: bool,
        learn: bool = False,
    ) -> None:  # fmt: skip
        arguments = {"beta": beta, "threshold": float(threshold), "reset_mechanism": "zero", "learn_beta": learn}
        SnnTorchNeuron.__init__(self, "Leaky", arguments, surrogate=surrogate)
        self.decay_input = decay_input

    def advance(self, x_t: Tensor) -> Tensor:
        if self.decay_input:
            beta: Tensor = self.peer.beta
            x_t = x_t * (1 - beta.clamp(0, 1))
        return super().advance(x_t)


class SnnTorchIF(SnnTorchLIF):
    """`Leaky` with β = 1 and the arguments of `ranvier.neurons.IF`."""

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
        self._leaky(1.0, threshold, surrogate, decay_input=False)


class SnnTorchPLIF(SnnTorchLIF):
    """`Leaky` with a learned β (snnTorch learns β itself, not the w of β = 1 − σ(w)); equal to PLIF at the start."""

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
        _resets(v_reset, reset, detach_reset)
        self._leaky(1 - 1 / above_one(tau), threshold, surrogate, decay_input, learn=True)


def _resets(v_reset: float, reset: Reset, detach_reset: bool) -> None:
    only("v_reset", float(v_reset), 0.0, "snnTorch resets to zero")
    only("reset", reset, "hard", "snnTorch subtracts after the leak")
    only("detach_reset", detach_reset, True, "snnTorch keeps the reset out of the gradient")
