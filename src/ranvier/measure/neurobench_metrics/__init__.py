"""The metrics of NeuroBench 2.3.0, computed here, and a model in the form that its own harness takes."""

from __future__ import annotations

from ranvier.measure.neurobench_metrics.adapter import to_neurobench
from ranvier.measure.neurobench_metrics.metrics import NeuroBenchReport, neurobench
from ranvier.measure.neurobench_metrics.static import connection_sparsity, footprint

__all__ = ["NeuroBenchReport", "connection_sparsity", "footprint", "neurobench", "to_neurobench"]
