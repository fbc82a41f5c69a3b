"""Which adapter a specification means."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from ranvier.errors import ArgumentError, nearest

if TYPE_CHECKING:
    from ranvier.neurons.neuron import Neuron

OWN = "ranvier"

# The adapter classes of each library, by the type of the neuron of ours that they equal; "" is any neuron by its name.
_ADAPTERS: dict[str, dict[str, str]] = {
    "spikingjelly": {
        "": "SpikingJellyNeuron", "if": "SpikingJellyIF", "lif": "SpikingJellyLIF", "plif": "SpikingJellyPLIF",
        "klif": "SpikingJellyKLIF",
    },
    "snntorch": {"": "SnnTorchNeuron", "if": "SnnTorchIF", "lif": "SnnTorchLIF", "plif": "SnnTorchPLIF"},
    "braincog": {"": "BrainCogNeuron", "if": "BrainCogIF", "lif": "BrainCogLIF", "plif": "BrainCogPLIF"},
}  # fmt: skip

BACKENDS: tuple[str, ...] = (OWN, *_ADAPTERS)
"""Ranvier itself, and the libraries whose neurons its nets take."""


def is_installed(backend: str) -> bool:
    """Whether the library behind `backend` can be found (it is not imported)."""
    return backend == OWN or (backend in _ADAPTERS and find_spec(backend) is not None)


def backends_of(neuron: str) -> tuple[str, ...]:
    """The backends that have an equal of the neuron type `neuron`, Ranvier first."""
    return (OWN, *(backend for backend, adapters in _ADAPTERS.items() if neuron and neuron in adapters))


def backend_of(neuron: str, backend: str = OWN) -> type[Neuron] | None:
    """The adapter class for the neuron type `neuron` on `backend`; None for a neuron of Ranvier itself.

    The type "spikingjelly", "snntorch" or "braincog" means any neuron of that library by its own name.

    Raises `ArgumentError` for an unknown backend, or one that has no equal of this neuron.
    """
    if backend == OWN and neuron in _ADAPTERS:
        backend, neuron = neuron, ""
    if backend == OWN:
        return None
    if not isinstance(backend, str) or backend not in _ADAPTERS:
        raise ArgumentError(
            f"backend: expected one of {', '.join(BACKENDS)}, got {backend!r}{nearest(str(backend), BACKENDS)}"
        )
    adapters = _ADAPTERS[backend]
    if neuron not in adapters:
        known = [name for name in adapters if name]
        raise ArgumentError(
            f"backend {backend!r} has no neuron that equals {neuron!r}, only {', '.join(known)}; any neuron of it is "
            f"{{'type': {backend!r}, 'neuron': ...}}"
        )
    return getattr(import_module(f"ranvier.neurons.backends.{backend}"), adapters[neuron])
