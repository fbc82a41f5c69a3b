"""Spiking neurons: equations, stateless between calls, fused where a kernel exists."""

from __future__ import annotations

from ranvier.neurons.leaky import IF, LIF, PLIF, IntegerLIF, LeakyNeuron
from ranvier.neurons.neuron import Neuron
from ranvier.neurons.registry import NEURONS, NeuronFactory, NeuronSpec, build

__all__ = [
    "IF", "LIF", "NEURONS", "PLIF", "IntegerLIF", "LeakyNeuron", "Neuron", "NeuronFactory", "NeuronSpec", "build",
]  # fmt: skip
