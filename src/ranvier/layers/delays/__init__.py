"""Synapses with delays: learned, rounded, streamed, and driven by events."""

from __future__ import annotations

from ranvier.layers.delays.control import (
    DelayAnnealer,
    clamp_delays_,
    delay_layers,
    delay_param_groups,
    freeze_delays_,
    integer_delays,
    round_delays_,
)
from ranvier.layers.delays.conv import DelayConv2d
from ranvier.layers.delays.dense import DenseDelayLinear
from ranvier.layers.delays.kernel import delay_kernel
from ranvier.layers.delays.linear import DelayLinear
from ranvier.layers.delays.queue import EventQueue
from ranvier.layers.delays.table import SynapseTable

__all__ = [
    "DelayAnnealer", "DelayConv2d", "DelayLinear", "DenseDelayLinear", "EventQueue", "SynapseTable", "clamp_delays_",
    "delay_kernel", "delay_layers", "delay_param_groups", "freeze_delays_", "integer_delays", "round_delays_",
]  # fmt: skip
