"""What a net really does: what enters each layer, synaptic operations, energy, audit, latency, size."""

from __future__ import annotations

from ranvier.measure import energy, spectrum
from ranvier.measure.audit import Audit, AuditRow, audit
from ranvier.measure.count import count
from ranvier.measure.entropy import InputEntropy, attention_entropy, input_entropy, spike_entropy
from ranvier.measure.gain import GainReport, LayerGain, calibrate_gain
from ranvier.measure.health import HealthReport, LayerHealth, Problem, health
from ranvier.measure.neurobench_metrics import NeuroBenchReport, neurobench, to_neurobench
from ranvier.measure.report import NeuronRow, NormRow, Operand, Report, Row, Totals
from ranvier.measure.size import parameter_count, state_bytes
from ranvier.measure.timing import Latency, latency

__all__ = [
    "Audit", "AuditRow", "GainReport", "HealthReport", "InputEntropy", "Latency", "LayerGain", "LayerHealth",
    "NeuroBenchReport", "NeuronRow", "NormRow", "Operand", "Problem", "Report", "Row", "Totals", "attention_entropy",
    "audit", "calibrate_gain", "count", "energy", "health", "input_entropy", "latency", "neurobench",
    "parameter_count", "spectrum", "spike_entropy", "state_bytes", "to_neurobench",
]  # fmt: skip
