"""Bits that a layer moves for one sample, in two data flows: event by event, and tiled with ideal reuse."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from ranvier.errors import ArgumentError

Membrane = Literal["step", "event"]


@dataclass(frozen=True)
class Widths:
    """Bit widths of weights, (real) activations and membrane potentials."""

    weight: int = 32
    activation: int = 32
    membrane: int = 32

    def __post_init__(self) -> None:
        for name, bits in (("weight", self.weight), ("activation", self.activation), ("membrane", self.membrane)):
            if isinstance(bits, bool) or not isinstance(bits, int) or not 1 <= bits <= 64:
                raise ArgumentError(f"the {name} width must be 1 to 64 bits, got {bits!r}")


@dataclass(frozen=True)
class LayerLoad:
    """What one layer handles for one sample; sums are over its time steps.

    `synops` additions caused by events, `inputs` input elements of `input_bits` each, `events` the non-zero ones with
    `event_payload` bits beside the address, `outputs` output elements of `output_bits`, `events_out` the non-zero ones,
    `weights` stored weights, `input_size` and `output_size` elements of one step, `neurons` whether a membrane follows.
    """

    synops: float
    inputs: float
    events: float
    outputs: float
    weights: float
    input_size: float
    output_size: float
    events_out: float = 0.0
    bias: bool = False
    neurons: bool = True
    input_bits: float = 1
    event_payload: int = 0
    output_bits: int = 1


def address_bits(size: float) -> int:
    """Bits that name one of `size` places."""
    return max(1, math.ceil(math.log2(max(size, 1))))


def event_bits(load: LayerLoad, widths: Widths, membrane: Membrane = "step") -> dict[str, float]:
    """Bits of the event-driven flow: a weight is read for every synaptic operation.

    With `membrane="step"` inputs accumulate in a register and each neuron's state is read and written once a step;
    with "event" at every synaptic operation too.
    """
    if membrane not in ("step", "event"):
        raise ArgumentError(f"membrane must be 'step' or 'event', got {membrane!r}")
    updates = load.outputs + (load.synops if membrane == "event" else 0.0)
    return {
        "weights": load.synops * widths.weight,
        "bias": load.outputs * widths.weight if load.bias else 0.0,
        "membrane": 2 * updates * widths.membrane if load.neurons else 0.0,
        "input": load.events * (address_bits(load.input_size) + load.event_payload),
        "output": load.events_out * address_bits(load.output_size) if load.neurons else load.outputs * load.output_bits,
    }


def tiled_bits(load: LayerLoad, widths: Widths, weight_loads: float = 1) -> dict[str, float]:
    """Bits of the tiled flow with ideal reuse, a lower bound: every weight is read `weight_loads` times a sample.

    That is once, or T times where the buffer on the chip does not hold the layer.
    """
    return {
        "weights": load.weights * widths.weight * weight_loads,
        "membrane": 2 * load.outputs * widths.membrane if load.neurons else 0.0,
        "input": load.inputs * load.input_bits,
        "output": load.outputs * load.output_bits,
    }
