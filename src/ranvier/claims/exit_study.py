"""What the claims on early exit share: nets that are trained, recorded on held-out and on test samples, compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ranvier.data import Samples
    from ranvier.infer.early_exit import Criterion

QCFS = {
    "cifar10": {"layers": [32, "A", 64, "A", 96], "hidden": 128, "levels": 4, "start": 2.0},
    "mnist": {"layers": [16, "A", 32, "A", 32, "A"], "hidden": 64, "levels": 4, "start": 2.0},
}
CRITERIA = ("confidence", "alpha_30", "entropy", "gap", "patience", "cutoff")
BATCH = 32


@dataclass(frozen=True)
class Trained:
    """A net in eval mode and the samples it has not seen: held-out ones to choose on, and the test set."""

    net: nn.Module
    held_out: Samples
    test: Samples


@contextmanager
def trained(
    data: str, model: str, arguments: Mapping[str, Any], settings: Mapping[str, Any], seed: int, **train: Any
) -> Iterator[Trained]:
    """Train on a part of MNIST or CIFAR-10 (averaged to 16 × 16); the last weights count, nothing is selected."""
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from ranvier.train import fit, load_run, load_splits, parse_recipe

    held = settings["held_out"]
    parsed = parse_recipe({
        "name": "claim", "seed": seed,
        "data": {
            "name": data, "limit_train": settings["train"] + held, "limit_test": settings["test"], "validation": held,
            "batch_size": 64, "options": {"size": 16} if data == "cifar10" else {},
            "augment": {"flip": True} if data == "cifar10" else {},
        },
        "model": {"name": model, "args": dict(arguments)},
        "train": {
            "epochs": settings["epochs"], "lr": 3e-3, "weight_decay": 0.01, "schedule": "onecycle",
            "label_smoothing": 0.05, "clip_norm": 1.0, "accelerator": "cpu", "checkpoint_epochs": 0, **train,
        },
    })  # fmt: skip
    with TemporaryDirectory() as temporary:
        fit(parsed, Path(temporary) / "run", progress=False)
        net, _ = load_run(Path(temporary) / "run")
        splits = load_splits(parsed)
        assert splits.validation is not None
        yield Trained(net.eval(), splits.validation, splits.test)


def recorded(net: nn.Module, part: Samples) -> tuple[Tensor, Tensor]:
    """Logits of every step `[T, N, K]` and labels."""
    from ranvier.infer.early_exit import record

    return record(net, (part.batch(range(i, min(i + BATCH, len(part)))) for i in range(0, len(part), BATCH)))


def chosen(name: str, logits: Tensor, labels: Tensor) -> Criterion:
    """The criterion of an arm with what it learns from held-out samples, at no loss of their accuracy."""
    from ranvier.infer import early_exit as room

    if name in ("confidence", "entropy"):
        return room.calibrate_alpha(logits, labels, make=lambda a: room.named_criterion(name, alpha=a))[0]
    criterion = room.fitted("confidence" if name == "alpha_30" else name, logits, labels, 30.0)
    if name != "cutoff":
        room.calibrate(logits, labels, criterion)
    return criterion


def sufficient(logits: Tensor, labels: Tensor, less: float = 0.002) -> int:
    """The smallest fixed number of steps whose accuracy is that of all steps less `less`."""
    from ranvier.infer.early_exit import fixed_steps, smallest_sufficient

    found = smallest_sufficient(logits, labels, fixed_steps(logits, labels)[-1] - less - 1e-9)
    assert found is not None
    return found


def compared(held: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> dict[str, dict[str, float]]:
    """Test accuracy (%), mean steps and accuracy lost (points) of the criteria, fixed and random steps, the oracle."""
    from statistics import fmean

    from ranvier.infer import early_exit as room

    fixed = [100 * share for share in room.fixed_steps(*test)]
    enough = sufficient(*held)
    points = {"full": (fixed[-1], float(len(fixed))), "fixed": (fixed[enough - 1], float(enough))}
    for name in CRITERIA:
        found = room.evaluate_exit(*test, chosen(name, *held))
        points[name] = 100 * found.accuracy, found.mean_steps
        if name == "confidence":
            draws = [room.evaluate_exit(*test, room.RandomLike(found.histogram, draw)) for draw in range(5)]
            points["random"] = 100 * fmean(d.accuracy for d in draws), fmean(d.mean_steps for d in draws)
    best = room.oracle(*test)
    points["oracle"] = 100 * best.accuracy, best.mean_steps
    return {
        name: {"accuracy": right, "steps": steps, "lost": fixed[-1] - right} for name, (right, steps) in points.items()
    }
