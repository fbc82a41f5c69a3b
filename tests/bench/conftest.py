"""Synthetic result files for the report tests: clearly made up, never shown to anyone as a measurement."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from ranvier.bench.result import Result, write_result
from ranvier.bench.suite import hash_config, hash_variant, slug


def invented(label: str, seed: int = 0, accuracy: float = 0.95, energy: float = 4e6, **changes: object) -> Result:
    """One invented result of a made-up net called `label`."""
    rng = random.Random(f"{label}{seed}")
    steps, epochs = 4, 10
    recipe = {
        "name": slug(label),
        "seed": seed,
        "data": {"name": "synthetic"},
        "model": {"name": "made_up", "label": label},
    }
    hashed, variant = hash_config(recipe, "synthetic", 1), hash_variant(recipe, "synthetic", 1)
    energy *= rng.uniform(0.97, 1.03)
    accuracy = min(1.0, accuracy + rng.uniform(-0.01, 0.01))
    layers = ["stem.neuron", "blocks.0.attention.neuron", "blocks.0.mlp.neuron", "head.neuron"]
    document: dict[str, object] = {
        "run_id": f"synthetic-{slug(label)}-{hashed[:8]}-s{seed}",
        "created": "2020-01-01T00:00:00+00:00",
        "suite": {"name": "synthetic", "version": 1},
        "model": {
            "name": "made_up",
            "label": label,
            "family": "synthetic",
            "params": 123_456,
            "steps": steps,
            "spike_driven": energy < 1e7,
            "violations": [] if energy < 1e7 else ["head: real values"],
        },
        "task": {
            "name": "synthetic",
            "version": 1,
            "dataset_fingerprint": "0" * 16,
            "sizes": {"train": 100, "test": 50},
        },
        "config": recipe,
        "config_hash": hashed,
        "variant_hash": variant,
        "seed": seed,
        "epochs_trained": epochs,
        "selected_epoch": 8,
        "selection_split": "val",
        "metrics": {"accuracy": {"value": accuracy, "n": 50, "higher_is_better": True}},
        "accuracy_by_step": [accuracy * (1 - math.exp(-1.2 * (t + 1))) for t in range(steps - 1)] + [accuracy],
        "curve": [
            {
                "epoch": e,
                "train_loss": 2.3 * math.exp(-0.35 * e) + rng.uniform(0, 0.05),
                "val_loss": 2.3 * math.exp(-0.3 * e) + rng.uniform(0.02, 0.12),
                "train_accuracy": 1 - 0.8 * math.exp(-0.5 * e),
                "val_accuracy": accuracy * (1 - 0.75 * math.exp(-0.45 * e)),
            }
            for e in range(1, epochs + 1)
        ],
        "energy": {
            "as_built": {
                "total_pj": energy,
                "breakdown": {"additions": energy * 0.4, "multiplications": energy * 0.6},
                "constants": {"addition, pJ": 0.9, "multiplication and addition, pJ": 4.6},
                "assumptions": ["synthetic"],
            },
            "paper": {"total_pj": energy * 0.3},
            "models": {
                "paper": {"total_pj": energy * 0.3, "breakdown": {"ac": energy * 0.3}},
                "lemaire2022": {"total_pj": 1e14 / energy, "breakdown": {"memory.weights": 1e14 / energy}},
            },
        },
        "spikes": {
            name: {
                "input_class": "spikes" if i else "real",
                "rate": rng.uniform(0.05, 0.4),
                "synops": energy * 0.1,
                "macs": energy,
            }
            for i, name in enumerate(("stem.conv", "blocks.0.qkv", "blocks.0.mlp.fc1", "head"))
        },
        "rates": [{"layer": name, "rate": rng.uniform(0.02, 0.4), "neurons": 4096} for name in layers],
        "latency": [
            {"batch": 1, "median_ms": energy / 2e6, "runs": 20, "threads": 1},
            {"batch": 64, "median_ms": energy / 2e5, "runs": 10, "threads": 1},
        ],
        "sample": {
            "index": 7,
            "target": 3,
            "prediction": 3,
            "image": {"width": 2, "height": 2, "channels": 1, "pixels": "AP+A/w=="},
            "rasters": [
                {
                    "layer": name,
                    "neurons": 4096,
                    "steps": ["".join(rng.choices("0012" if i == 3 else "00001", k=128)) for _ in range(steps)],
                }
                for i, name in enumerate(layers)
            ],
        },
        "cost": {"train_s": energy / 3e5, "eval_s": 0.5, "measure_s": 1.0, "peak_rss": 300_000_000},
        "env": {
            "ranvier": "0",
            "torch": "0",
            "python": "3",
            "platform": "synthetic",
            "processor": "synthetic",
            "cores": 2,
            "threads": 1,
        },
        "neurobench": {
            "Footprint": 493_824,
            "ConnectionSparsity": None,
            "SynapticOperations": {"Effective_MACs": 0.0, "Effective_ACs": 1e5, "Dense": 1e6},
        },
        "notes": ["synthetic"],
    }
    document.update(changes)
    return Result.model_validate(document)


@pytest.fixture
def synthetic() -> Callable[..., Result]:
    """Makes one invented result."""
    return invented


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with invented results of six nets."""
    nets = [
        ("LIF conv net", 0.962, 4e6, 3),
        ("PLIF MLP", 0.941, 8e5, 3),
        ("Spikformer 2-64", 0.971, 2.6e7, 2),
        ("Spike-driven Transformer 2-64", 0.968, 9e6, 2),
        ("QKFormer 2-64", 0.9735, 1.4e7, 2),
        ("IF MLP, one seed", 0.902, 7.5e5, 1),
    ]
    for label, accuracy, energy, seeds in nets:
        for seed in range(seeds):
            result = invented(label, seed, accuracy, energy)
            write_result(tmp_path / "results" / f"{result.run_id}.json", result)
    return tmp_path
