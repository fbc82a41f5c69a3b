"""The files of an early-exit study: what was chosen on held-out samples, and what it does on the test set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from ranvier.train.records import Record, read_record

CALIBRATION, EVALUATION = "exit.json", "eval.json"
_MOST_BYTES = 64 * 2**20

TimedMode = Literal["latency", "throughput", "compiled"]
Share = Annotated[float, Field(ge=0, le=1)]
Steps = Annotated[float, Field(ge=1)]


class OracleRecord(Record):
    """Stopping at the first right step; samples that are never right count all steps, or one (optimistic)."""

    accuracy: Share
    mean_steps: Steps
    mean_steps_optimistic: Steps


class CriterionRecord(Record):
    """A criterion as it was calibrated, and the fixed number of steps that is as good on the calibration set."""

    name: str
    settings: dict[str, Any]
    accuracy: Share
    mean_steps: Steps
    fixed_steps: Annotated[int, Field(ge=1)]
    front: list[tuple[Steps, Share]] = Field(default_factory=list)


class CalibrationRecord(Record):
    """What was chosen, on which samples; `keys` are digests of these samples."""

    schema_version: Literal[1] = 1
    model: str
    data: str
    part: str
    samples: int
    classes: int
    steps: int
    tolerance: Share
    margin: Annotated[float, Field(ge=0)] = 0.0
    full_accuracy: Share
    fixed: list[Share]
    oracle: OracleRecord
    criteria: Annotated[list[CriterionRecord], Field(min_length=1)]
    keys: list[str]


class RowRecord(Record):
    """A criterion on the evaluation samples, with its controls: fixed steps, and random steps with its histogram."""

    name: str
    accuracy: Share
    mean_steps: Steps
    histogram: list[int]
    fixed_steps: int
    fixed_accuracy: Share
    random_accuracy: Share


class TimingRecord(Record):
    """Wall-clock of early exit and of the fixed number of steps, in turns; milliseconds a sample, medians of rounds."""

    name: str
    mode: TimedMode
    batch: int
    chunk: int
    samples: int
    rounds: int
    threads: int
    fixed_steps: int
    exit_ms: float
    fixed_ms: float
    full_ms: float
    speedup: float
    mean_steps: Steps
    mean_steps_computed: Steps
    same_decisions: Share


class EvaluationRecord(Record):
    """Figures on the evaluation samples; `shared` of them are also in the calibration set."""

    schema_version: Literal[1] = 1
    part: str
    samples: int
    shared: int
    fixed: list[Share]
    oracle: OracleRecord
    rows: list[RowRecord]
    timings: list[TimingRecord] = Field(default_factory=list)


def read_calibration(folder: Path) -> CalibrationRecord:
    """The calibration in `folder`; `DataError` when it is not there or damaged."""
    return read_record(folder / CALIBRATION, CalibrationRecord, "calibration of an early exit", _MOST_BYTES)


def read_evaluation(folder: Path) -> EvaluationRecord:
    """The evaluation in `folder`; `DataError` when it is not there or damaged."""
    return read_record(folder / EVALUATION, EvaluationRecord, "evaluation of an early exit", _MOST_BYTES)
