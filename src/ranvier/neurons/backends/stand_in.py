"""Adapters that equal a neuron of ours and take its arguments."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from ranvier.errors import ArgumentError
from ranvier.neurons.backends.foreign import ForeignNeuron
from ranvier.neurons.leaky import Reset
from ranvier.surrogates import Surrogate


class LikeIF(ForeignNeuron):
    """The arguments of `ranvier.neurons.IF`. Mixed in before the library's `ForeignNeuron`; `node` is the class there
    and `settled` what else it needs."""

    stands_for: ClassVar[str] = "IF"
    node: ClassVar[str]
    settled: ClassVar[dict[str, Any]] = {}

    def __init__(
        self,
        threshold: float = 1.0,
        v_reset: float = 0.0,
        reset: Reset = "hard",
        detach_reset: bool = True,
        surrogate: str | dict[str, Any] | Surrogate = "sigmoid",
    ) -> None:
        arguments = self.resetting(threshold, v_reset, reset, detach_reset)
        super().__init__(self.node, {**arguments, **self.settled}, surrogate=surrogate)


class LikeLIF(ForeignNeuron):
    """The arguments of `ranvier.neurons.LIF` and `PLIF`, τ > 1. Mixed in before the library's `ForeignNeuron`; `node`
    is the class there."""

    stands_for: ClassVar[str] = "LIF"
    node: ClassVar[str]

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
        arguments = self.resetting(threshold, v_reset, reset, detach_reset)
        super().__init__(self.node, {**arguments, **self.leak(above_one(tau), decay_input)}, surrogate=surrogate)
        self.decay_input = decay_input

    @abstractmethod
    def leak(self, tau: float, decay_input: bool) -> dict[str, Any]:
        """The library's arguments for these of ours; `ArgumentError` for what it cannot do."""


def above_one(tau: float) -> float:
    """τ as the other libraries need it: a plain number above one."""
    if isinstance(tau, bool) or not isinstance(tau, int | float) or not tau > 1:
        raise ArgumentError(f"tau must be a number > 1 with this backend, got {tau!r}")
    return float(tau)


def only(name: str, given: Any, supported: Any, why: str) -> None:
    """Raise `ArgumentError` unless `given` is what the library can do."""
    if given != supported:
        raise ArgumentError(f"{name} must be {supported!r} with this backend ({why}), got {given!r}")


def only_hard_reset_to_zero(v_reset: float, reset: Reset, detach_reset: bool, title: str, soft: str) -> None:
    """Raise `ArgumentError` unless a membrane is set to zero, out of the gradient; `soft` says why not otherwise."""
    only("v_reset", float(v_reset), 0.0, f"{title} resets to zero")
    only("reset", reset, "hard", f"{title} {soft}")
    only("detach_reset", detach_reset, True, f"{title} keeps the reset out of the gradient")
