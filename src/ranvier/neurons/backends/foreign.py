"""What the adapters share: another library's module under Ranvier's contract of state."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from ranvier.errors import ArgumentError, MissingExtraError
from ranvier.neurons.neuron import Neuron, _work_dtype
from ranvier.state import State
from ranvier.surrogates import Surrogate


def library(module: str, package: str) -> ModuleType:
    """Import `module`; `MissingExtraError` names the `package` that brings it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"this neuron comes from {package!r}, which is no dependency of Ranvier; install it with: pip install "
            f"{package} ({error})"
        ) from error


def only(name: str, given: Any, supported: Any, why: str) -> None:
    """Raise `ArgumentError` unless `given` is what the library can do."""
    if given != supported:
        raise ArgumentError(f"{name} must be {supported!r} with this backend ({why}), got {given!r}")


class ForeignNeuron(Neuron):
    """A neuron layer of another library: stateless between calls, streamed by explicit state.

    The library's module is `peer`; it is reset after every call. A subclass says how it is reset (`clear`), advanced
    by a step (`advance`), how its state is read (`read`) and written (`write`), and may run a whole sequence (`whole`).
    Half-precision input is computed in float32.
    """

    state_names = ("v",)
    peer: Any  # its members are the library's own

    def __init__(self, surrogate: str | dict[str, Any] | Surrogate = "sigmoid") -> None:
        super().__init__(surrogate)

    def clear(self) -> None:
        """Forget the library's own state."""
        raise NotImplementedError

    def advance(self, x_t: Tensor) -> Tensor:
        """Spikes of one step; the library keeps the state."""
        raise NotImplementedError

    def read(self) -> State:
        """The library's state after a step."""
        raise NotImplementedError

    def write(self, state: State) -> None:
        """Put the library into `state`."""
        raise NotImplementedError

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
