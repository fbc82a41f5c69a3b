"""The files of a claim: one JSON document a trial, and one for the result. Unknown keys and NaN are refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from ranvier.claims.claim import Arm, Claim, Outcome
from ranvier.train.files import explained, write_json
from ranvier.train.records import Record, read_record

SCHEMA_VERSION = 1
_MAX_FILE_BYTES = 32 * 2**20
_WHAT = "file of a claim"

Finite = Annotated[float, Field(allow_inf_nan=False)]


class Machine(Record):
    """Where a trial ran."""

    ranvier: str
    torch: str
    python: str
    platform: str
    processor: str
    cores: int
    threads: int


class TrialRecord(Record):
    """One finished trial of one arm."""

    schema_version: Literal[1] = SCHEMA_VERSION
    claim: str
    digest: str
    arm: str
    seed: int
    scale: str
    created: str
    wall_s: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    machine: Machine
    metrics: dict[str, Finite]
    curves: dict[str, list[tuple[Finite, Finite]]] = Field(default_factory=dict)
    notes: list[str] = Field(default_factory=list)


class ArmRecord(Record):
    """An arm and its figures over seeds: metric -> values in the order of the seeds."""

    name: str
    description: str
    settings: dict[str, Any]
    values: dict[str, list[Finite]]


class MetricRecord(Record):
    """What a metric is."""

    name: str
    description: str
    unit: str
    higher_is_better: bool | None
    digits: int


class FindingRecord(Record):
    """What a rule said."""

    rule: str
    holds: Literal["holds", "fails", "undecided"]
    detail: str
    essential: bool


class LineRecord(Record):
    """A curve of a figure: points (x, mean, standard deviation)."""

    label: str
    points: list[tuple[Finite, Finite, Finite]]


class FigureRecord(Record):
    """A figure as data."""

    title: str
    x: str
    y: str
    kind: Literal["lines", "bars", "scatter"]
    log_x: bool
    log_y: bool
    caption: str
    lines: list[LineRecord]


class ClaimResult(Record):
    """A claim's result: everything its page shows."""

    schema_version: Literal[1] = SCHEMA_VERSION
    name: str
    title: str
    system: str
    paper: str
    statement: str
    question: str
    data: str
    comment: str
    version: int
    scale: str
    scale_note: str
    settings: dict[str, Any]
    seeds: list[int]
    complete: bool
    verdict: Literal["reproduced", "partly reproduced", "not reproduced", "undecided"]
    findings: list[FindingRecord]
    metrics: list[MetricRecord]
    arms: list[ArmRecord]
    figures: list[FigureRecord]
    notes: list[str]
    machines: list[Machine]
    wall_s: Finite
    finished: str
    command: str


def digest(claim: Claim, arm: Arm, seed: int, scale: str) -> str:
    """What a trial depends on, as a hash: a finished trial counts only while nothing of it has changed."""
    content = {
        "schema": SCHEMA_VERSION, "claim": claim.name, "version": claim.version, "joint": claim.joint,
        "arm": arm.name, "arm_settings": dict(arm.settings), "seed": seed, "scale": scale,
        "settings": dict(claim.scales[scale].settings),
    }  # fmt: skip
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def write_trial(path: Path, record: TrialRecord) -> None:
    """Store one trial, all or nothing."""
    with explained(f"write {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, record.model_dump(mode="json"))


def read_trial(path: Path) -> TrialRecord:
    """Read and validate one trial; `DataError` says what is wrong with it."""
    return read_record(path, TrialRecord, _WHAT, _MAX_FILE_BYTES)


def read_result(path: str | Path) -> ClaimResult:
    """Read and validate a claim's `result.json`; `DataError` says what is wrong with it."""
    return read_record(Path(path), ClaimResult, _WHAT, _MAX_FILE_BYTES)


def outcome_of(record: TrialRecord) -> Outcome:
    """The stored trial as an `Outcome`."""
    return Outcome(record.metrics, record.curves, record.notes)
