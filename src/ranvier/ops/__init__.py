"""Numeric kernels. Each op has a plain-torch reference that defines it and kernels that must match it."""

from __future__ import annotations

from ranvier.ops.leaky_scan import LeakyDynamics, leaky_scan, leaky_scan_reference, leaky_step
from ranvier.ops.wkv import wkv

__all__ = ["LeakyDynamics", "leaky_scan", "leaky_scan_reference", "leaky_step", "wkv"]
