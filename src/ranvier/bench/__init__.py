"""The benchmark platform: suites, a runner that skips what is done, validated result files, a static report."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ranvier.bench import report
    from ranvier.bench.result import RESULT_SCHEMA_VERSION, Failure, Result, json_schema, read_result
    from ranvier.bench.runner import BenchResult, run
    from ranvier.bench.suite import Cell, Suite, expand, list_suites, load_suite
    from ranvier.bench.summary import Board, Row, summarise
    from ranvier.bench.table import leaderboard_table
    from ranvier.bench.validation import validate

# the rooms behind these names need pydantic, which `import ranvier` must not
_HOMES = {
    "RESULT_SCHEMA_VERSION": "result", "Failure": "result", "Result": "result", "json_schema": "result",
    "read_result": "result", "BenchResult": "runner", "run": "runner", "Cell": "suite", "Suite": "suite",
    "expand": "suite", "list_suites": "suite", "load_suite": "suite", "Board": "summary", "Row": "summary",
    "summarise": "summary", "leaderboard_table": "table", "validate": "validation",
}  # fmt: skip

__all__ = [
    "RESULT_SCHEMA_VERSION", "BenchResult", "Board", "Cell", "Failure", "Result", "Row", "Suite", "expand",
    "json_schema", "leaderboard_table", "list_suites", "load_suite", "read_result", "report", "run", "summarise",
    "validate",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    from ranvier.extras import require

    if name == "report":
        require("jinja2", extra="report")
        return import_module("ranvier.bench.report")
    if name in _HOMES:
        require("pydantic", extra="cli")
        return getattr(import_module(f"ranvier.bench.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'ranvier.bench' has no attribute {name!r}")
