"""What a net really does: what enters each layer, synaptic operations, energy, audit, latency, size."""

from __future__ import annotations

from ranvier.measure import energy, spectrum
from ranvier.measure.audit import Audit, AuditRow, audit
from ranvier.measure.count import count
from ranvier.measure.gain import GainReport, LayerGain, calibrate_gain
from ranvier.measure.health import HealthReport, LayerHealth, Problem, health
from ranvier.measure.report import NeuronRow, NormRow, Operand, Report, Row, Totals
from ranvier.measure.size import parameter_count, state_bytes
from ranvier.measure.timing import Latency, latency

__all__ = [
    "Audit", "AuditRow", "GainReport", "HealthReport", "Latency", "LayerGain", "LayerHealth", "NeuronRow", "NormRow",
    "Operand", "Problem", "Report", "Row", "Totals", "audit", "calibrate_gain", "count", "energy", "health", "latency",
    "parameter_count", "spectrum", "state_bytes",
]  # fmt: skip
