"""What a net really does: what enters each layer, synaptic operations, energy, audit, latency, size."""

from __future__ import annotations

from ranvier.measure import energy
from ranvier.measure.audit import Audit, AuditRow, audit
from ranvier.measure.count import count
from ranvier.measure.report import NeuronRow, NormRow, Operand, Report, Row, Totals
from ranvier.measure.size import parameter_count, state_bytes
from ranvier.measure.timing import Latency, latency

__all__ = [
    "Audit", "AuditRow", "Latency", "NeuronRow", "NormRow", "Operand", "Report", "Row", "Totals", "audit", "count",
    "energy", "latency", "parameter_count", "state_bytes",
]  # fmt: skip
