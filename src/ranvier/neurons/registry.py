"""Neurons by name, and the factory through which models make them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ranvier.errors import ArgumentError
from ranvier.neurons.backends.find import OWN, backend_of
from ranvier.registry import Registry, check_keywords

if TYPE_CHECKING:
    from ranvier.neurons.neuron import Neuron

NEURONS: Registry[type[Neuron]] = Registry("neuron")

NeuronSpec = str | Mapping[str, Any]


def build(spec: NeuronSpec, **overrides: Any) -> Neuron:
    """A neuron from a name (`"lif"`) or a mapping (`{"type": "plif", "tau": 4.0}`), with `overrides` on top.

    Raises `UnknownNameError` for an unknown type and `ArgumentError` for a keyword that the neuron does not take.
    """
    return NeuronFactory(spec)(**overrides)


class NeuronFactory:
    """Makes the neurons of a model from one specification.

    `factory(channels=C, channel_axis=2)` tells where the channels are; the hint is used when the specification says
    `per_channel: true` and ignored otherwise. Other keywords override the specification for one layer (a lower
    threshold after attention, say) and must be known to the neuron. With a `backend` ("spikingjelly", "snntorch",
    "braincog") it is the equal neuron of that library; these names as type mean any neuron of it by its own name.
    """

    def __init__(self, spec: NeuronSpec) -> None:
        if isinstance(spec, str):
            spec = {"type": spec}
        if not isinstance(spec, Mapping) or not isinstance(spec.get("type"), str):
            raise ArgumentError(f"neuron must be a name or a mapping with a 'type', got {spec!r}")
        arguments = {key: value for key, value in spec.items() if key not in ("type", "per_channel", "backend")}
        self.type: str = spec["type"]
        self.backend: str = spec.get("backend", OWN)
        self.neuron: type[Neuron] = backend_of(self.type, self.backend) or NEURONS[self.type]
        self.per_channel = bool(spec.get("per_channel", False))
        check_keywords(self.neuron, arguments, f"neuron {self.type!r}")
        if self.per_channel:
            check_keywords(self.neuron, {"channels": None}, f"neuron {self.type!r} with per_channel")
        self.arguments = arguments

    def __call__(self, channels: int | None = None, channel_axis: int = 2, **overrides: Any) -> Neuron:
        check_keywords(self.neuron, overrides, f"neuron {self.type!r}")
        arguments = {**self.arguments, **overrides}
        if self.per_channel:
            if channels is None:
                raise ArgumentError(f"neuron {self.type!r} with per_channel needs the number of channels here")
            arguments |= {"channels": channels, "channel_axis": channel_axis}
        return self.neuron(**arguments)
