"""A trained net as a flat program that a CPU runs one step at a time, working for spikes only where that is faster."""

from __future__ import annotations

from ranvier.infer.engine.engine import Engine, compile

__all__ = ["Engine", "compile"]
