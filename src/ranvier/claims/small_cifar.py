"""CIFAR-10 averaged to 16×16, the part of it and the schedule on which small nets are compared within minutes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from ranvier.data import Samples
    from ranvier.train import Recipe, RunResult

SETTINGS = {"train": 3840, "test": 2000, "epochs": 4, "lr": 4e-3, "batch_size": 128}
"""What a scale may set; the defaults take about ten seconds of one core a run of a one-step net of 77,000 weights."""


def recipe(
    model: str, arguments: Mapping[str, Any], settings: Mapping[str, Any], seed: int, **train: Any
) -> Recipe:  # fmt: skip
    """One training: AdamW, one cycle, label smoothing, flips; the same for every arm. Nothing is selected on data."""
    from ranvier.train import parse_recipe

    s = {**SETTINGS, **settings}
    return parse_recipe(
        {
            "name": "claim",
            "seed": seed,
            "data": {
                "name": "cifar10", "options": {"size": 16}, "limit_train": s["train"], "limit_test": s["test"],
                "validation": 0, "batch_size": s["batch_size"], "augment": {"flip": True},
            },
            "model": {"name": model, "args": dict(arguments)},
            "train": {
                "epochs": s["epochs"], "lr": s["lr"], "weight_decay": 0.01, "schedule": "onecycle",
                "label_smoothing": 0.1, "clip_norm": 1.0, "accelerator": "cpu", "checkpoint_epochs": 0, **train,
            },
        }
    )  # fmt: skip


@contextmanager
def trained(parsed: Recipe, folder: Path | None = None) -> Iterator[tuple[nn.Module, RunResult, Samples]]:
    """Train `parsed` (in a folder that is removed, or in `folder`): the net, its result and the test samples."""
    from ranvier.train import fit, load_run, load_splits

    with TemporaryDirectory() as temporary:
        out = folder or Path(temporary) / "run"
        result = fit(parsed, out, progress=False)
        net, _ = load_run(out)
        yield net.eval(), result, load_splits(parsed).test


def percent(result: RunResult) -> float:
    """Test accuracy in percent."""
    assert result.test.accuracy is not None
    return 100 * result.test.accuracy
