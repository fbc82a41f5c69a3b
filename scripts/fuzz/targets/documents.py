"""YAML and JSON: what users write, and what runs leave behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from fuzz.targets.alone import alone
from fuzz.targets.arrays import npz

RECIPE = b"""name: small
seed: 1
data: {name: digits, batch_size: 64, validation: 0.1, augment: {flip: false}}
model: {name: spiking_mlp, args: {T: 2, hidden: [32], neuron: {type: lif, tau: 2.0}}}
train: {epochs: 2, optimizer: adamw, lr: 1e-3}
"""
SUITE = b"""name: small
version: 1
title: Two nets
description: small
budget_minutes: 1
threads: 1
base: {train: {epochs: 2, lr: 1e-3}}
models:
  - {name: spiking_mlp, label: A, args: {T: 2, hidden: [8]}}
data: [digits]
seeds: [0, 1]
"""
SCENARIO = b"""worlds: 2
agents: 3
policy: priority:4
comms: {loss: 0.2, auction: true}
faults: [{name: dropout, severity: 0.5}]
latency: {sense_us: 10.0}
"""
STEP = b"""dataset: torch/cifar10
num_classes: 10
img_size: 32
mean: [0.49, 0.48, 0.44]
std: [0.24, 0.24, 0.26]
scale: [1.0, 1.0]
aa: rand-m9-n1-mstd0.4-inc1
epochs: 4
mixup: 0.5
model: spikformer_cifar
step: 4
embed_dim: 384
num_heads: 12
node_type: LIFNode
batch_size: 128
lr: 5e-4
"""
_ASSETS = Path(__file__).resolve().parents[3] / "docs" / "assets" / "claims"


def _as_json(document: Any) -> bytes:
    return json.dumps(document).encode()


def _claim() -> bytes:
    """The smallest result of a claim."""
    return min((p.read_bytes() for p in _ASSETS.glob("*.json")), key=len)


def _failure() -> bytes:
    return _as_json({"schema_version": 1, "run_id": "quick-net-s0", "created": "2020-01-01T00:00:00+00:00",
                     "label": "net", "task": "digits", "seed": 0, "error": "KeyError: 'x'"})  # fmt: skip


@cache
def _result() -> bytes:
    """A synthetic result of a cell, as the tests of the report have it."""
    import importlib.util

    place = Path(__file__).resolve().parents[3] / "tests" / "bench" / "conftest.py"
    spec = importlib.util.spec_from_file_location("invented_results", place)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    document = module.invented("net").model_dump(mode="json")
    document["curve"], document["config"] = document["curve"][:2], {"name": "net"}
    return _as_json(document)


def _manifest() -> bytes:
    return _as_json({"name": "quick", "version": 1, "title": "Quick", "budget_minutes": 2.0, "source": "quick.yaml",
                     "run_ids": ["a-s0", "b-s0"], "wall_s": 1.5})  # fmt: skip


def _reported() -> bytes:
    return _as_json({"schema_version": 1, "model": "Net", "task": "cifar10", "value": 0.95, "steps": 4,
                     "params": 1000, "source": "A paper, 2024"})  # fmt: skip


_ORACLE = {"accuracy": 0.9, "mean_steps": 1.5, "mean_steps_optimistic": 1.25}


def _exit_calibration() -> bytes:
    criterion = {"name": "top", "settings": {"threshold": 0.5}, "accuracy": 0.9, "mean_steps": 1.5, "fixed_steps": 2,
                 "front": [[1.0, 0.5]]}  # fmt: skip
    return _as_json({"model": "m", "data": "d", "part": "validation", "samples": 4, "classes": 2, "steps": 2,
                     "tolerance": 0.0, "full_accuracy": 0.9, "fixed": [0.8, 0.9], "oracle": _ORACLE,
                     "criteria": [criterion], "keys": ["ab"]})  # fmt: skip


def _exit_evaluation() -> bytes:
    row = {"name": "top", "accuracy": 0.9, "mean_steps": 1.5, "histogram": [2, 2], "fixed_steps": 2,
           "fixed_accuracy": 0.9, "random_accuracy": 0.8}  # fmt: skip
    return _as_json({"part": "test", "samples": 4, "shared": 0, "fixed": [0.8, 0.9], "oracle": _ORACLE, "rows": [row]})


def _trial() -> bytes:
    machine = {"ranvier": "0.1", "torch": "2.6", "python": "3.11", "platform": "Linux", "processor": "p", "cores": 2,
               "threads": 1}  # fmt: skip
    return _as_json({"schema_version": 1, "claim": "c", "digest": "0" * 64, "arm": "a", "seed": 0, "scale": "quick",
                     "created": "2020-01-01T00:00:00+00:00", "wall_s": 1.0, "machine": machine,
                     "metrics": {"accuracy": 0.5}, "curves": {"loss": [[0.0, 1.0], [1.0, 0.5]]},
                     "notes": ["n"]})  # fmt: skip


def _run() -> bytes:
    test = {"n": 4, "accuracy": 0.5, "loss": 1.0, "accuracy_by_step": [0.5], "firing_rate": 0.1, "seconds": 1.0}
    return _as_json({"status": "finished", "name": "r", "seed": 0, "recipe_hash": "0", "epochs": 1, "steps": 2,
                     "selected_epoch": 1, "selection": "last", "validation": None, "test": test, "params": 3,
                     "model": {"name": "spiking_mlp", "args": {}}, "fingerprint": "0", "train_s": 1.0,
                     "eval_s": 1.0})  # fmt: skip


def _journal() -> bytes:
    return b"".join(_as_json({"step": i, "loss": 1.0 / (i + 1)}) + b"\n" for i in range(6))


def _card() -> bytes:
    from ranvier.models.pretrained import FOLDER

    document = json.loads(min(FOLDER.glob("*.json")).read_text(encoding="utf-8"))
    return _as_json({**document, "recipe": {}})


def _ratios() -> bytes:
    from ranvier.diffusion.settings import SolverSettings

    return _as_json({"format": 1, "kind": "compensation_ratios", "ratios": [1.0, 0.9], "times": [1.0, 0.5, 0.0],
                     "grid_kind": "time", "schedule": "linear", "settings": SolverSettings().to_json(),
                     "guidance": None, "model": "m", "found": {"T": 1000}})  # fmt: skip


def _regression() -> bytes:
    return _as_json({"format": 1, "kind": "cascade_polynomial_regression", "degrees": [1, 1, 1, 0], "clip": [0.5, 2.0],
                     "ridge": 0.0, "box": [[5, 20], [1, 9], [10, 1000]],
                     "coefficients": np.ones((2, 2, 2, 1)).tolist()})  # fmt: skip


def _log() -> bytes:
    from ranvier.loop.config import LoopConfig
    from ranvier.loop.record import FIELDS, FORMAT

    head = {"format": FORMAT, "config": LoopConfig(worlds=1).model_dump(mode="json"), "digest": "0" * 64, "torch": "2"}
    arrays: dict[str, Any] = {f"frame.{name}": np.zeros((2, 1, 1, 2), np.float32) for name in FIELDS}
    arrays["scene.goal"] = np.zeros((1, 2), np.float32)
    arrays["hashes"] = np.frombuffer(b"0" * 128, np.uint8)
    arrays["head"] = np.frombuffer(_as_json(head), np.uint8)
    return npz(**arrays)


def _read_recipe(path: Path) -> object:
    from ranvier.train.recipe_file import load_recipe

    return load_recipe(str(path)).hash()


def _read_override(path: Path) -> object:
    from ranvier.errors import ConfigError
    from ranvier.train.recipe_file import load_recipe

    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise ConfigError("not text") from error
    return load_recipe("digits_mlp", [text])


def _read_suite(path: Path) -> object:
    from ranvier.bench.suite import expand, load_suite

    suite = load_suite(path)
    return expand(suite) if len(suite.models) * len(suite.seeds) < 1000 else suite


def _read_scenario(path: Path) -> object:
    from ranvier.loop.config import load_config

    return load_config(path).key


def _read_step(path: Path) -> object:
    from ranvier.bench.step_config import import_step

    return import_step(path)


def _read_run(path: Path) -> object:
    from ranvier.train.run import RunFolder

    return RunFolder(path.parent).result()


def _record(room: str, reader: str, folder: bool = False) -> Callable[[Path], object]:
    def read(path: Path) -> object:
        from importlib import import_module

        return getattr(import_module(room), reader)(path.parent if folder else path)

    return read


def _loaded(room: str, kind: str) -> Callable[[Path], object]:
    def read(path: Path) -> object:
        from importlib import import_module

        return getattr(import_module(room), kind).load(path)

    return read


TARGETS = (
    alone("recipe.yaml", "small.yaml", lambda: RECIPE, _read_recipe, text=True),
    alone("recipe.override", "override", lambda: b"model.args.neuron={type: lif, tau: [1, 2.0]}", _read_override, True),
    alone("suite.yaml", "small.yaml", lambda: SUITE, _read_suite, text=True),
    alone("scenario.yaml", "small.yaml", lambda: SCENARIO, _read_scenario, text=True),
    alone("step.yaml", "small.yml", lambda: STEP, _read_step, text=True),
    alone("result.json", "r.json", _result, _record("ranvier.bench.result", "read_result"), text=True),
    alone("failure.json", "f.json", _failure, _record("ranvier.bench.result", "read_failure"), text=True),
    alone("manifest.json", "suite.json", _manifest, _record("ranvier.bench.manifest", "read_manifest", True), True),
    alone("reported.json", "r.json", _reported, _record("ranvier.bench.reported", "read_reported"), text=True),
    alone("exit.json", "exit.json", _exit_calibration,
          _record("ranvier.bench.exit_records", "read_calibration", True), text=True),
    alone("eval.json", "eval.json", _exit_evaluation,
          _record("ranvier.bench.exit_records", "read_evaluation", True), text=True),
    alone("claim.json", "result.json", _claim, _record("ranvier.claims", "read_result"), text=True),
    alone("trial.json", "trial.json", _trial, _record("ranvier.claims.record", "read_trial"), text=True),
    alone("run.json", "run.json", _run, _read_run, text=True),
    alone("metrics.jsonl", "metrics.jsonl", _journal, _record("ranvier.train.journal", "read_journal"), text=True),
    alone("card.json", "card.json", _card, _record("ranvier.models.pretrained", "read_card"), text=True),
    alone("ratios.json", "ratios.json", _ratios, _loaded("ranvier.diffusion", "CompensationRatios"), text=True),
    alone("regression.json", "r.json", _regression, _loaded("ranvier.diffusion", "CascadePolynomialRegression"), True),
    alone("loop.log", "log.npz", _log, _loaded("ranvier.loop.record", "Log")),
)  # fmt: skip
