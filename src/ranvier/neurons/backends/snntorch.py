"""Neurons of snnTorch, called step by step as it wants it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError
from ranvier.neurons.backends.foreign import ForeignNeuron, library
from ranvier.neurons.backends.stand_in import LikeIF, LikeLIF, only_hard_reset_to_zero
from ranvier.neurons.leaky import Reset
from ranvier.neurons.neuron import _work_dtype
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
    """Any neuron of snnTorch by its own name and with its own arguments; see `ForeignNeuron`.

    `neuron={"type": "snntorch", "neuron": "Synaptic", "arguments": {"alpha": 0.8, "beta": 0.9}}`: a spiking neuron
    whose step is `spikes, *state = neuron(x, *state)`, without its `spike_grad`, `init_hidden` and `output`.
    """

    title = "snnTorch"
    usual = "Leaky"

    def kinds(self) -> dict[str, type[nn.Module]]:
        room: Any = library("snntorch", PACKAGE)
        found = vars(room).items()
        return {name: kind for name, kind in found if isinstance(kind, type) and issubclass(kind, room.SpikingNeuron)}

    def made(self, kind: type[nn.Module], given: dict[str, Any]) -> nn.Module:
        if kind.__name__ == self.usual:
            given = {"beta": 0.5, **given}
        peer = kind(spike_grad=surrogate_of(self.surrogate), **given)
        self._states = _states(peer)
        self.state_names = tuple(f"state{i}" for i in range(len(self._states)))
        self._state: State | None = None
        return peer

    def resetting(self, threshold: float, v_reset: float, reset: Reset, detach_reset: bool) -> dict[str, Any]:
        only_hard_reset_to_zero(v_reset, reset, detach_reset, "snnTorch", "subtracts after the leak")
        return {"threshold": float(threshold), "reset_mechanism": "zero"}

    def clear(self) -> None:
        self._state = None
        for name in self._states:  # no graph and no batch is left behind
            buffer: Tensor = getattr(self.peer, name)
            setattr(self.peer, name, buffer.new_zeros(0))

    def initial_state(self, like: Tensor) -> State:
        return tuple(torch.zeros_like(like, dtype=_work_dtype(like)) for _ in self.state_names)

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


class SnnTorchIF(LikeIF, SnnTorchNeuron):
    """`Leaky` with β = 1 and the arguments of `ranvier.neurons.IF`."""

    node = "Leaky"
    settled: ClassVar[dict[str, Any]] = {"beta": 1.0}


class SnnTorchLIF(LikeLIF, SnnTorchNeuron):
    """`Leaky` with the arguments of `ranvier.neurons.LIF`: β = 1 − 1/τ, and the input divided by τ in front of it.

    It resets to zero in the step after the spike, which gives the same spikes; it subtracts after the leak, which does
    not, so that a soft reset has no equal there. The reset is always out of the gradient.
    """

    node = "Leaky"

    def leak(self, tau: float, decay_input: bool) -> dict[str, Any]:
        return {"beta": 1 - 1 / tau}

    def advance(self, x_t: Tensor) -> Tensor:
        if self.decay_input:
            beta: Tensor = self.peer.beta
            x_t = x_t * (1 - beta.clamp(0, 1))
        return super().advance(x_t)


class SnnTorchPLIF(SnnTorchLIF):
    """`Leaky` with a learned β (snnTorch learns β itself, not the w of β = 1 − σ(w)); equal to PLIF at the start."""

    stands_for = "PLIF"

    def leak(self, tau: float, decay_input: bool) -> dict[str, Any]:
        return {**super().leak(tau, decay_input), "learn_beta": True}


def _states(peer: nn.Module) -> list[str]:
    """Names of the state in the order in which a step returns it: all buffers that are not persistent."""
    order = ("syn_exc", "syn_inh", "syn", "spk", "mem")
    kept = {name for name, _ in peer.named_buffers(recurse=False)} & peer._non_persistent_buffers_set
    if not kept <= set(order):
        raise ArgumentError(f"snnTorch's {type(peer).__name__} keeps state that is not known here: {sorted(kept)}")
    return [name for name in order if name in kept]
