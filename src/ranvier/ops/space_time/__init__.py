"""Synapses in space and time that are the same at every place: the convolution, and the events that it is made of."""

from __future__ import annotations

from ranvier.ops.space_time.convolve import space_time_at, space_time_convolve
from ranvier.ops.space_time.events import deliveries, operations, scatter_events
from ranvier.ops.space_time.table import SpaceTimeSynapses

__all__ = ["SpaceTimeSynapses", "deliveries", "operations", "scatter_events", "space_time_at", "space_time_convolve"]
