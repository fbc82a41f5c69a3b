"""One cell from recipe to result file: train (or resume), measure the selected net, store."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ranvier.bench.machine import environment
from ranvier.bench.observe import sample_of
from ranvier.bench.profile import profile
from ranvier.bench.result import Cost, Epoch, Metric, ModelRef, Result, TaskRef, write_result
from ranvier.bench.runner import now, result_path
from ranvier.bench.suite import Cell
from ranvier.data import Samples
from ranvier.errors import CheckpointError, ConfigError
from ranvier.measure.machine import peak_rss
from ranvier.train import Recipe, RunResult, fit, load_run, load_splits, parse_recipe, read_journal
from ranvier.train.run import METRICS

MEASURED_SAMPLES = 128
"""Test samples that rates and operations are averaged over; every model of a task sees the same ones."""


def execute(cell: Cell, out: Path, threads: int) -> None:
    """Train (or resume) the cell's recipe, measure the selected net, and write `out/results/<run_id>.json`."""
    recipe = parse_recipe(cell.recipe, f"cell {cell.run_id}")
    folder = out / "runs" / cell.run_id
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        run = _train(recipe, folder)
        net, _ = load_run(folder)
        splits = load_splits(recipe)
        result = _result(cell, run, net, splits.test, threads)
        result.task.sizes = {
            "train": len(splits.train),
            "validation": len(splits.validation) if splits.validation is not None else 0,
            "test": len(splits.test),
        }
    finally:
        torch.set_num_threads(before)
    write_result(result_path(cell, out), result)


def _train(recipe: Recipe, folder: Path) -> RunResult:
    try:
        return fit(recipe, folder, resume=True, progress=False)
    except CheckpointError:  # what an earlier attempt left is damaged: nothing is lost but its time
        return fit(recipe, folder, resume=False, progress=False)


def _result(cell: Cell, run: RunResult, net: nn.Module, test: Samples, threads: int) -> Result:
    started = time.perf_counter()
    x, _ = test.batch(range(min(MEASURED_SAMPLES, len(test))))
    torch.manual_seed(cell.seed)  # a random encoder draws the same for every attempt
    measured = profile(net, x, time_first=test.time_first)
    sample = sample_of(net, test)
    evaluation = run.test
    if evaluation.accuracy is None:
        raise ConfigError(f"{cell.label}: a suite compares classifiers, and this model does not classify")
    error = math.sqrt(evaluation.accuracy * (1 - evaluation.accuracy) / evaluation.n)
    card = getattr(net, "card", None)
    return Result(
        run_id=cell.run_id,
        created=now(),
        suite=cell.suite,
        model=ModelRef(
            name=cell.recipe["model"]["name"], label=cell.label, family=getattr(card, "family", ""), params=run.params,
            steps=len(evaluation.accuracy_by_step), spike_driven=measured.spike_driven, violations=measured.violations,
        ),
        task=TaskRef(name=cell.task, version=cell.task_version, dataset_fingerprint=run.fingerprint),
        config=cell.recipe,
        config_hash=cell.config_hash,
        variant_hash=cell.variant_hash,
        seed=cell.seed,
        epochs_trained=run.epochs,
        selected_epoch=run.selected_epoch,
        selection_split="validation" if run.selection == "validation" else None,
        metrics={
            "accuracy": Metric(value=evaluation.accuracy, n=evaluation.n, higher_is_better=True, stderr=error),
            "loss": Metric(value=evaluation.loss, n=evaluation.n, higher_is_better=False),
        },
        accuracy_by_step=list(evaluation.accuracy_by_step),
        curve=[_epoch(entry) for entry in read_journal(run.out / METRICS) if "epoch" in entry],
        energy=measured.energy,
        spikes=measured.layers,
        rates=measured.rates,
        latency=measured.latency,
        neurobench=measured.neurobench,
        neurobench_ext=measured.neurobench_ext,
        sample=sample,
        cost=Cost(
            train_s=run.train_s, eval_s=run.eval_s, measure_s=time.perf_counter() - started, peak_rss=peak_rss()
        ),
        env=environment(threads),
        provenance="transfer" if cell.recipe["model"]["args"].get("pretrained") else "reproduced",
        notes=measured.notes,
    )  # fmt: skip


def _epoch(entry: dict[str, Any]) -> Epoch:
    return Epoch(
        epoch=entry["epoch"],
        train_loss=entry.get("train_loss"), train_accuracy=entry.get("train_accuracy"),
        val_loss=entry.get("val_loss"), val_accuracy=entry.get("val_accuracy"),
    )  # fmt: skip
