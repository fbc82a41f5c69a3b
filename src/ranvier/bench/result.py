"""The result file: one JSON document a cell, with a schema that refuses what it does not know."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from ranvier.files import write_bytes
from ranvier.train.files import explained
from ranvier.train.records import Record, read_record

RESULT_SCHEMA_VERSION = 1
"""Raised whenever a field changes its meaning; it is part of every cell's hash, so old results are never mixed in."""

MAX_RASTER_NEURONS = 128
MAX_RASTER_STEPS = 64
_MAX_FILE_BYTES = 16 * 2**20

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Finite = Annotated[float, Field(allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
RasterRow = Annotated[str, StringConstraints(pattern=r"^[0-9]*$", max_length=MAX_RASTER_NEURONS)]


class SuiteRef(Record):
    """The suite that asked for the cell."""

    name: str
    version: int


class ModelRef(Record):
    """What was trained. `params` counts every trainable parameter of the net as it is configured here."""

    name: str
    label: str
    family: str = ""
    params: Annotated[int, Field(ge=0)]
    steps: Annotated[int, Field(ge=1)]
    spike_driven: bool | None = None
    violations: list[str] = Field(default_factory=list)


class TaskRef(Record):
    """On what: the data set, the version of the task's rules, and the fingerprint of the bytes that were read.

    `metric` names the one of the result's metrics that nets are ranked by.
    """

    name: str
    version: Annotated[int, Field(ge=1)]
    dataset_fingerprint: str
    split: str = "test"
    metric: str = "accuracy"
    sizes: dict[str, int] = Field(default_factory=dict)


class Metric(Record):
    """One figure: its value, on how many samples, and which way is better."""

    value: Finite
    n: Annotated[int, Field(ge=1)]
    higher_is_better: bool
    stderr: NonNegative | None = None


class EnergyEstimate(Record):
    """Energy of one inference in pJ. `as_built` and `paper` are two accountings and never share a column."""

    total_pj: NonNegative
    breakdown: dict[str, NonNegative] = Field(default_factory=dict)
    constants: dict[str, Finite | str] = Field(default_factory=dict)
    assumptions: list[str] = Field(default_factory=list)


class Energy(Record):
    """Both accountings, apart; `models` holds every energy model of `ranvier.measure.energy` by its name."""

    as_built: EnergyEstimate
    paper: EnergyEstimate | None = None
    models: dict[str, EnergyEstimate] = Field(default_factory=dict)


class LayerSpikes(Record):
    """One layer: the firing rate and kind of what enters it, and its work for one sample."""

    input_class: str
    rate: NonNegative
    synops: NonNegative
    macs: NonNegative


class NeuronRate(Record):
    """Spikes per neuron and step that one neuron layer emits, over the measured batch."""

    layer: str
    rate: NonNegative
    neurons: Annotated[int, Field(ge=1)]


class Latency(Record):
    """Median wall-clock of one forward pass in milliseconds, and its spread."""

    batch: Annotated[int, Field(ge=1)]
    median_ms: NonNegative
    p10_ms: NonNegative | None = None
    p90_ms: NonNegative | None = None
    runs: Annotated[int, Field(ge=1)]
    threads: Annotated[int, Field(ge=1)]


class Epoch(Record):
    """One point of the training curve; `None` where the run had no such figure (or it was not finite).

    `val_score` is the figure that selected the weights of a net that does not classify.
    """

    epoch: Annotated[int, Field(ge=0)]
    train_loss: Finite | None = None
    train_accuracy: Fraction | None = None
    val_loss: Finite | None = None
    val_accuracy: Fraction | None = None
    val_score: Finite | None = None


class SampleImage(Record):
    """A small picture: rows of base64-coded bytes, row-major `[H, W, C]`."""

    width: Annotated[int, Field(ge=1, le=128)]
    height: Annotated[int, Field(ge=1, le=128)]
    channels: Literal[1, 3]
    pixels: Annotated[str, StringConstraints(max_length=70_000)]


class Raster(Record):
    """Spikes of one neuron layer for one sample: a string a step, a digit a neuron (counts above 9 are shown as 9)."""

    layer: str
    neurons: Annotated[int, Field(ge=1)]
    steps: Annotated[list[RasterRow], Field(max_length=MAX_RASTER_STEPS)]


class Sample(Record):
    """One real test sample, what the net said about it, and how it fired.

    Of classifiers `target` and `prediction` are classes. Of other nets `truth` and `answer` are pictures of the right
    answer and of theirs (classes in colour, boxes drawn in), or `text` and `continued` what was read and, for every
    token, the likeliest next one.
    """

    index: Annotated[int, Field(ge=0)]
    target: int | None = None
    prediction: int | None = None
    image: SampleImage | None = None
    truth: SampleImage | None = None
    answer: SampleImage | None = None
    text: Annotated[str, StringConstraints(max_length=4000)] | None = None
    continued: Annotated[str, StringConstraints(max_length=4000)] | None = None
    rasters: Annotated[list[Raster], Field(max_length=16)] = Field(default_factory=list)


class Cost(Record):
    """What the cell took: seconds of wall-clock, and the peak resident memory of its process in bytes."""

    train_s: NonNegative
    eval_s: NonNegative
    measure_s: NonNegative = 0.0
    peak_rss: Annotated[int, Field(ge=0)]


class Environment(Record):
    """The machine and the versions."""

    ranvier: str
    torch: str
    python: str
    platform: str
    processor: str
    cores: int
    threads: int
    device: str = "cpu"
    git: str | None = None


class Result(Record):
    """One finished cell: one model, one configuration, one data set, one seed."""

    schema_version: Literal[1] = RESULT_SCHEMA_VERSION
    run_id: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.@-]*$", max_length=160)]
    created: str
    suite: SuiteRef
    model: ModelRef
    task: TaskRef
    config: dict[str, Any]
    config_hash: Sha256
    variant_hash: Sha256
    seed: int
    epochs_trained: Annotated[int, Field(ge=0)]
    selected_epoch: Annotated[int, Field(ge=0)] | None = None
    selection_split: str | None = None
    metrics: dict[str, Metric]
    accuracy_by_step: list[Fraction]
    curve: list[Epoch] = Field(default_factory=list)
    energy: Energy
    spikes: dict[str, LayerSpikes] = Field(default_factory=dict)
    rates: list[NeuronRate] = Field(default_factory=list)
    latency: list[Latency] = Field(default_factory=list)
    neurobench: dict[str, Any] | None = None
    neurobench_ext: dict[str, Any] | None = None
    sample: Sample | None = None
    cost: Cost
    env: Environment
    provenance: Literal["reproduced", "reported", "transfer"] = "reproduced"
    notes: list[str] = Field(default_factory=list)

    @property
    def accuracy(self) -> float:
        """Test accuracy in [0, 1] of a classifier."""
        return self.metrics["accuracy"].value

    @property
    def score(self) -> float:
        """The figure that nets are ranked by on this task, `metrics[task.metric]`."""
        return self.metrics[self.task.metric].value

    @property
    def synops(self) -> float:
        """Synaptic operations of one sample, summed over the layers."""
        return sum(layer.synops for layer in self.spikes.values())

    def latency_ms(self, batch: int) -> float | None:
        """Median milliseconds of one forward pass at this batch size, where it was measured."""
        return next((entry.median_ms for entry in self.latency if entry.batch == batch), None)


class Failure(Record):
    """A cell that ended in an error; it is tried again on the next run."""

    schema_version: Literal[1] = RESULT_SCHEMA_VERSION
    run_id: str
    created: str
    label: str
    task: str
    seed: int
    error: str
    traceback: str = ""


def json_schema() -> dict[str, Any]:
    """The JSON schema of a result file (draft 2020-12)."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Result.model_json_schema()}


def write_json(path: Path, document: Any) -> None:
    """Write `document` as JSON so that a reader sees the old file or the whole new one, never a part."""
    write_text(path, json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write `text` all or nothing: a reader sees the old file or the whole new one; `RunError` when it cannot."""
    with explained(f"write {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, text.encode())


def write_result(path: Path, result: Result) -> None:
    """Store one result file atomically."""
    write_json(path, result.model_dump(mode="json"))


def read_result(path: str | Path) -> Result:
    """Read and validate one result file; `DataError` says what is wrong with it and where."""
    return read_record(Path(path), Result, "result file", _MAX_FILE_BYTES)


def read_failure(path: str | Path) -> Failure:
    """Read and validate one record of a failed cell."""
    return read_record(Path(path), Failure, "result file", _MAX_FILE_BYTES)
