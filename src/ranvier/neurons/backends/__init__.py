"""Neurons of other libraries inside Ranvier's nets: `neuron={"type": "lif", "backend": "spikingjelly"}`.

The libraries are no dependencies; each is imported when its first neuron is made.
"""

from __future__ import annotations

from ranvier.neurons.backends.find import BACKENDS, backend_of, backends_of, is_installed
from ranvier.neurons.backends.foreign import ForeignNeuron

__all__ = ["BACKENDS", "ForeignNeuron", "backend_of", "backends_of", "is_installed"]
