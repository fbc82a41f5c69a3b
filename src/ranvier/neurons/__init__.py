"""Spiking neurons: equations, stateless between calls, fused where a kernel exists."""

from __future__ import annotations

from ranvier.neurons.adaptive import ALIF
from ranvier.neurons.analog import ReLU
from ranvier.neurons.clif import CLIF
from ranvier.neurons.conversion import QCFSIF, QFFSIF
from ranvier.neurons.current_based import CubaLIF
from ranvier.neurons.exponential import EIF
from ranvier.neurons.gain_control import GainControl, GainLIF
from ranvier.neurons.glif import GLIF
from ranvier.neurons.graded import IELIF, ILIF, NILIF, SpikeCount
from ranvier.neurons.hodgkin_huxley import HodgkinHuxley
from ranvier.neurons.izhikevich import Izhikevich
from ranvier.neurons.klif import KLIF
from ranvier.neurons.leaky import IF, LIF, PLIF, IntegerLIF, LeakyNeuron
from ranvier.neurons.membrane import MembraneNeuron
from ranvier.neurons.mixture import HDLIF
from ranvier.neurons.neuron import Neuron
from ranvier.neurons.parallel import PSN, MaskedPSN, SlidingPSN
from ranvier.neurons.registry import NEURONS, NeuronFactory, NeuronSpec, build
from ranvier.neurons.ternary import NegIF

__all__ = [
    "ALIF", "CLIF", "EIF", "GLIF", "HDLIF", "IELIF", "IF", "ILIF", "KLIF", "LIF", "NEURONS", "NILIF", "PLIF", "PSN",
    "QCFSIF", "QFFSIF", "CubaLIF", "GainControl", "GainLIF",
    "HodgkinHuxley", "IntegerLIF", "Izhikevich", "LeakyNeuron", "MaskedPSN",
    "MembraneNeuron", "NegIF", "Neuron", "NeuronFactory", "NeuronSpec", "ReLU", "SlidingPSN", "SpikeCount", "build",
]  # fmt: skip
