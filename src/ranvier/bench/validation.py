"""Check a folder of results: the schema, and everything that can be computed again."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from ranvier.bench.reported import FOLDER, read_reported
from ranvier.bench.result import Result, read_result
from ranvier.bench.score import score
from ranvier.bench.suite import hash_config, hash_variant
from ranvier.errors import DataError

_TOLERANCE = 1e-6


def validate(path: str | Path) -> list[str]:
    """Problems of one result file or of all in a folder (`DIR` or `DIR/results`); an empty list means valid.

    Raises `DataError` when there is nothing to check.
    """
    given = Path(path)
    folder = given / "results" if (given / "results").is_dir() else given
    files = sorted(folder.glob("*.json")) if folder.is_dir() else [given]
    records = sorted((given / FOLDER).glob("*.json")) if given.is_dir() else []
    if not files or not all(file.exists() for file in files):
        raise DataError(f"{given}: no result files here; expected a .json file or a folder with results/*.json")
    problems: list[str] = []
    for record in records:
        try:
            read_reported(record)
        except DataError as error:
            problems.append(str(error))
    seen: dict[str, Path] = {}
    for file in files:
        try:
            result = read_result(file)
        except DataError as error:
            problems.append(str(error))
            continue
        problems += [f"{file}: {problem}" for problem in _derived(result, file)]
        if result.config_hash in seen:
            problems.append(f"{file}: the same experiment as {seen[result.config_hash].name}")
        seen[result.config_hash] = file
    return problems


def _derived(result: Result, file: Path) -> Iterator[str]:
    task = (result.task.name, result.task.version)
    if hash_config(result.config, *task) != result.config_hash:
        yield "config_hash does not belong to this configuration, task and schema version"
    if hash_variant(result.config, *task) != result.variant_hash:
        yield "variant_hash does not belong to this configuration, task and schema version"
    if result.config.get("seed") != result.seed:
        yield f"seed is {result.seed}, but the configuration says {result.config.get('seed')!r}"
    if file.stem != result.run_id:
        yield f"the file name does not match run_id {result.run_id!r}"
    ranked = result.metrics.get(result.task.metric)
    accuracy = result.metrics.get("accuracy")
    if ranked is None:
        yield f"metrics: {result.task.metric!r} is missing, which task.metric names"
    elif ranked.higher_is_better != score(result.task.metric).higher:
        yield f"metrics.{result.task.metric}: higher_is_better is {ranked.higher_is_better}"
    for name, metric in result.metrics.items():
        if score(name).unit == "%" and not 0 <= metric.value <= 1:
            yield f"metrics.{name}: {metric.value} is not in [0, 1]"
    if (
        accuracy is not None
        and result.accuracy_by_step
        and abs(result.accuracy_by_step[-1] - accuracy.value) > _TOLERANCE
    ):
        yield "accuracy_by_step does not end at metrics.accuracy"
    if result.selected_epoch is not None and result.selected_epoch > result.epochs_trained:
        yield "selected_epoch lies after the last epoch"
    models = {f"models.{name}": estimate for name, estimate in result.energy.models.items()}
    for name, estimate in {"as_built": result.energy.as_built, "paper": result.energy.paper, **models}.items():
        if estimate and estimate.breakdown:
            total = sum(estimate.breakdown.values())
            if not math.isclose(total, estimate.total_pj, rel_tol=1e-6, abs_tol=1e-9):
                yield f"energy.{name}: the parts sum to {total:g} pJ, the total says {estimate.total_pj:g}"
