"""One cell from recipe to result file: train (or resume), measure the selected net, store."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ranvier.bench.machine import environment
from ranvier.bench.observe import Decode, sample_of
from ranvier.bench.profile import profile
from ranvier.bench.result import Cost, Epoch, ModelRef, Result, TaskRef, write_result
from ranvier.bench.runner import now, result_path
from ranvier.bench.score import metrics_of
from ranvier.bench.suite import Cell
from ranvier.data import Samples
from ranvier.errors import CheckpointError
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
        tokenizer = splits.bundle.tokenizer
        result = _result(cell, run, net, splits.test, threads, None if tokenizer is None else tokenizer.decode)
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


def _result(
    cell: Cell, run: RunResult, net: nn.Module, test: Samples, threads: int, decode: Decode | None
) -> Result:  # fmt: skip
    started = time.perf_counter()
    x, _ = test.batch(range(min(MEASURED_SAMPLES, len(test))))
    torch.manual_seed(cell.seed)  # a random encoder draws the same for every attempt
    measured = profile(net, x, time_first=test.time_first)
    sample = sample_of(net, test, decode=decode)
    evaluation = run.test
    metric, metrics = metrics_of(net, evaluation)
    card = getattr(net, "card", None)
    return Result(
        run_id=cell.run_id,
        created=now(),
        suite=cell.suite,
        model=ModelRef(
            name=cell.recipe["model"]["name"], label=cell.label, family=getattr(card, "family", ""), params=run.params,
            steps=len(evaluation.accuracy_by_step) or _steps(net, x, test.time_first),
            spike_driven=measured.spike_driven, violations=measured.violations,
        ),
        task=TaskRef(name=cell.task, version=cell.task_version, dataset_fingerprint=run.fingerprint, metric=metric),
        config=cell.recipe,
        config_hash=cell.config_hash,
        variant_hash=cell.variant_hash,
        seed=cell.seed,
        epochs_trained=run.epochs,
        selected_epoch=run.selected_epoch,
        selection_split="validation" if run.selection == "validation" else None,
        metrics=metrics,
        accuracy_by_step=list(evaluation.accuracy_by_step),
        curve=[_epoch(entry, metric) for entry in read_journal(run.out / METRICS) if "epoch" in entry],
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


def _steps(net: nn.Module, x: torch.Tensor, time_first: bool) -> int:
    """Time steps of a sample: as many as it has, or as the net makes of it."""
    return int(x.shape[0]) if time_first else max(1, int(getattr(net, "T", 1)))


def _epoch(entry: dict[str, Any], metric: str) -> Epoch:
    loss = entry.get("val_loss")
    if metric == "bits_per_token":
        decided = None if loss is None else loss / math.log(2)
    else:
        decided = None if metric == "accuracy" else entry.get(f"val_{metric}")
    return Epoch(
        epoch=entry["epoch"],
        train_loss=entry.get("train_loss"), train_accuracy=entry.get("train_accuracy"),
        val_loss=loss, val_accuracy=entry.get("val_accuracy"), val_score=decided,
    )  # fmt: skip
