"""What the adapters share: another library's module under Ranvier's contract of state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError, MissingExtraError, nearest
from ranvier.neurons.neuron import Neuron, _work_dtype
from ranvier.registry import check_keywords
from ranvier.state import State
from ranvier.surrogates import Surrogate

if TYPE_CHECKING:  # which imports this room
    from ranvier.neurons.leaky import Reset


def library(module: str, package: str) -> ModuleType:
    """Import `module`; `MissingExtraError` names the `package` that brings it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"this neuron comes from {package!r}, which is no dependency of Ranvier; install it with: pip install "
            f"{package} ({error})"
        ) from error


class OurSurrogate(nn.Module):
    """A surrogate of ours where a library has none of that shape."""

    def __init__(self, surrogate: Surrogate) -> None:
        super().__init__()
        self.surrogate = surrogate

    def forward(self, x: Tensor) -> Tensor:
        return self.surrogate(x)


class ForeignNeuron(Neuron, ABC):
    """Any neuron layer of another library by its own name: stateless between calls, streamed by explicit state.

    The library's module is `peer`; it is reset after every call. A subclass says which neurons there are (`kinds`) and
    how one is made (`made`), reset (`clear`) and advanced by a step (`advance`), how its state is read (`read`) and
    written (`write`), and what our thresholds and resets are called there (`resetting`); it may run a whole sequence
    (`whole`). Half-precision input is computed in float32.

    Args:
        neuron: a class of the library; None for its leaky integrate-and-fire neuron.
        arguments: of that class, without the surrogate.
        threshold: where a model sets it for one layer.
        surrogate: of Ranvier; the library's own of the same derivative is used where it has one.

    Raises `ArgumentError` for an unknown neuron or argument.
    """

    title: ClassVar[str]  # the library as its makers write it
    usual: ClassVar[str]  # the class that None means
    threshold_name: ClassVar[str] = "threshold"
    state_names = ("v",)
    peer: Any  # its members are the library's own

    def __init__(
        self,
        neuron: str | None = None,
        arguments: Mapping[str, Any] | None = None,
        threshold: float | None = None,
        surrogate: str | dict[str, Any] | Surrogate = "sigmoid",
    ) -> None:
        super().__init__(surrogate)
        name, kinds = self.usual if neuron is None else neuron, self.kinds()
        if not isinstance(name, str) or name not in kinds:
            raise ArgumentError(f"{self.title} has no spiking neuron {name!r}{nearest(str(name), kinds)}")
        given = dict(arguments or {})
        if threshold is not None:
            given[self.threshold_name] = float(threshold)
        check_keywords(kinds[name], given, f"{self.title}'s {name}")
        self.peer = self.made(kinds[name], given)

    @abstractmethod
    def kinds(self) -> dict[str, type[nn.Module]]:
        """The library's neurons by their names."""

    @abstractmethod
    def made(self, kind: type[nn.Module], given: dict[str, Any]) -> nn.Module:
        """A neuron of this kind with these arguments and with our surrogate."""

    @abstractmethod
    def resetting(self, threshold: float, v_reset: float, reset: Reset, detach_reset: bool) -> dict[str, Any]:
        """The library's arguments for these of ours; `ArgumentError` for what it cannot do."""

    @abstractmethod
    def clear(self) -> None:
        """Forget the library's own state."""

    @abstractmethod
    def advance(self, x_t: Tensor) -> Tensor:
        """Spikes of one step; the library keeps the state."""

    @abstractmethod
    def read(self) -> State:
        """The library's state after a step."""

    @abstractmethod
    def write(self, state: State) -> None:
        """Put the library into `state`."""

    def whole(self, x: Tensor) -> Tensor:
        """All steps of `x` (`[T, B, ...]`) from the initial state."""
        return torch.stack([self.advance(x_t) for x_t in x.unbind(0)])

    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        try:
            self.write(state)
            spikes = self.advance(x_t.to(state[0].dtype))
            return spikes.to(x_t.dtype), self.read()
        finally:
            self.clear()

    def scan(self, x: Tensor, state: State | None, keep_state: bool) -> tuple[Tensor, State | None]:
        work = x.to(_work_dtype(x))
        try:
            self.clear()
            if state is not None:
                self.write(state)
            elif not self.streams or not keep_state:
                return self.whole(work).to(x.dtype), None
            else:
                self.write(self.initial_state(work[0]))
            spikes = torch.stack([self.advance(x_t) for x_t in work.unbind(0)])
            return spikes.to(x.dtype), self.read() if keep_state else None
        finally:
            self.clear()
