"""Published statements as experiments that a reader can run: arms, seeds, and rules of the verdict fixed beforehand.

Names are loaded on first use; running a claim needs pydantic.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ranvier.claims.claim import Arm, Claim, Metric, Outcome, Scale, Trial
    from ranvier.claims.figure import Figure, Line, bars, curves
    from ranvier.claims.record import ClaimResult, read_result
    from ranvier.claims.registry import get_claim, list_claims
    from ranvier.claims.rules import Bound, Check, Close, Finding, Order, Ratio
    from ranvier.claims.runner import TrialError, run
    from ranvier.claims.spread import Spread
    from ranvier.claims.table import Table

_HOMES = {
    "claim": ("Arm", "Claim", "Metric", "Outcome", "Scale", "Trial"),
    "figure": ("Figure", "Line", "bars", "curves"),
    "record": ("ClaimResult", "read_result"),
    "registry": ("get_claim", "list_claims"),
    "rules": ("Bound", "Check", "Close", "Finding", "Order", "Ratio"),
    "runner": ("TrialError", "run"),
    "spread": ("Spread",),
    "table": ("Table",),
}

__all__ = [
    "Arm", "Bound", "Check", "Claim", "ClaimResult", "Close", "Figure", "Finding", "Line", "Metric", "Order",
    "Outcome", "Ratio", "Scale", "Spread", "Table", "Trial", "TrialError", "bars", "curves", "get_claim",
    "list_claims", "read_result", "run",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            if module in ("record", "runner"):
                from ranvier.extras import require

                require("pydantic", extra="cli")
            value = getattr(import_module(f"ranvier.claims.{module}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module 'ranvier.claims' has no attribute {name!r}")
