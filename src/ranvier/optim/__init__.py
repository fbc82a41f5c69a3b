"""Optimisers that survive gradient spikes; they work with any PyTorch model and need no neuron."""

from __future__ import annotations

from ranvier.optim.clip import clip_grad_spikes_
from ranvier.optim.finite import NonFiniteGradientError
from ranvier.optim.groups import sparse_param_groups
from ranvier.optim.lamb import LAMB
from ranvier.optim.moment_reset import MomentumReset
from ranvier.optim.monitor import GradientSpikeMonitor, SpikeRecord, gradient_spike_scores
from ranvier.optim.spam import SPAM
from ranvier.optim.stable_spam import StableSPAM
from ranvier.optim.warmup import reset_warmup

__all__ = [
    "LAMB", "SPAM", "GradientSpikeMonitor", "MomentumReset", "NonFiniteGradientError", "SpikeRecord", "StableSPAM",
    "clip_grad_spikes_", "gradient_spike_scores", "reset_warmup", "sparse_param_groups",
]  # fmt: skip
