"""A trained net as a flat program that a CPU runs one step at a time, working for spikes only where that is faster."""

from __future__ import annotations

from ranvier.infer.engine.compile import compile
from ranvier.infer.engine.engine import Engine
from ranvier.infer.engine.export_c import export_c
from ranvier.infer.engine.report import Report
from ranvier.infer.engine.trace import NotCompilableError

__all__ = ["Engine", "NotCompilableError", "Report", "compile", "export_c"]
