"""One or more settings of every registered neuron, and inputs that make each of them spike now and then."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

STEPS, CHANNELS = 12, 3

SPECS: list[dict[str, Any]] = [
    {"type": "if"},
    {"type": "lif"},
    {"type": "plif"},
    {"type": "integer_lif"},
    {"type": "i_lif"},
    {"type": "i_lif", "decay": 0.25, "levels": 4},
    {"type": "ni_lif"},
    {"type": "ie_lif"},
    {"type": "ie_lif", "gain": 2.0, "decay": 0.25},
    {"type": "spike_count"},
    {"type": "spike_count", "levels": 2, "threshold": torch.tensor([0.5, 1.0, 0.7])},
    {"type": "eif"},
    {"type": "eif", "reset": "soft", "detach_reset": False},
    {"type": "eif", "tau": torch.tensor([1.5, 2.0, 4.0]), "threshold": torch.tensor([0.5, 1.0, 0.7])},
    {"type": "klif"},
    {"type": "klif", "reset": "soft", "k": 1.3, "channels": CHANNELS},
    {"type": "clif"},
    {"type": "clif", "tau": torch.tensor([1.5, 2.0, 4.0]), "detach_reset": False},
    {"type": "glif"},
    {"type": "glif", "channels": CHANNELS, "detach_reset": False},
    {"type": "glif", "learn_gates": False, "gates": (0.3, 0.5, 0.7)},
    {"type": "cuba_lif"},
    {"type": "cuba_lif", "reset": "hard", "v_reset": -0.2, "tau_synapse": torch.tensor([1.0, 2.0, 3.0])},
    {"type": "cuba_lif", "learn": True, "channels": CHANNELS},
    {"type": "alif"},
    {"type": "alif", "learn": True, "decay_input": False, "reset": "hard"},
    {"type": "alif", "beta": torch.tensor([0.1, 0.5, 1.0]), "tau_adaptation": torch.tensor([2.0, 5.0, 9.0])},
    {"type": "gain_lif", "tau_gain": 3.0, "tau_rate": 2.0},
    {"type": "gain_lif", "tau_gain": 3.0, "tau_rate": 2.0, "learn": True, "reset": "hard"},
    {"type": "gain_lif", "tau_gain": 4.0, "rule": "closed_form", "gain": 0.7},
    {"type": "gain_lif", "mode": "frozen", "gain": 1.5, "channels": CHANNELS},
    {"type": "gain_control", "neuron": "alif", "tau_gain": 3.0, "through_gain": True},
    {"type": "qcfs_if"},
    {"type": "qcfs_if", "threshold": torch.tensor([0.5, 1.0, 0.7]), "scale_output": False},
    {"type": "qffs_if"},
    {"type": "qffs_if", "levels": 2, "threshold": torch.tensor([0.5, 1.0, 0.7])},
    {"type": "izhikevich"},
    {"type": "izhikevich", "preset": "ch", "half_steps": False, "dt": 0.5},
    {"type": "hodgkin_huxley", "substeps": 20, "dt": 0.04},
    {"type": "hodgkin_huxley", "integrator": "exponential", "substeps": 12, "dt": 0.06},
    {"type": "neg_if"},
    {"type": "neg_if", "neg_threshold": 0.5, "detach_reset": True},
    {"type": "neg_if", "threshold": torch.tensor([0.5, 1.0, 0.7])},
    {"type": "relu"},
    {"type": "psn", "steps": STEPS},
    {"type": "masked_psn", "steps": STEPS, "order": 3},
    {"type": "masked_psn", "steps": STEPS, "order": 1, "tau": 1.5},
    {"type": "sliding_psn"},
    {"type": "sliding_psn", "order": 1},
    {"type": "hd_lif", "steps": STEPS, "channels": CHANNELS},
]


def title(spec: dict[str, Any]) -> str:
    rest = "-".join(k if isinstance(v, Tensor) else f"{k}={v}" for k, v in spec.items() if k != "type")
    return f"{spec['type']}[{rest}]" if rest else str(spec["type"])


def drive(spec: dict[str, Any], seed: int = 0, steps: int = STEPS, batch: int = 2) -> Tensor:
    """A float64 input current `[steps, batch, CHANNELS, 2]` in the units of the neuron."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(steps, batch, CHANNELS, 2, generator=generator, dtype=torch.float64)
    if spec["type"] == "izhikevich":
        return 40 + 20 * x
    if spec["type"] == "hodgkin_huxley":
        return 60 + 40 * x.clamp(-1.4, 3)  # Euler is unstable far below rest
    return 0.3 + 1.5 * x
