"""Early exit: stop simulating a sample as soon as its output is sure enough."""

from __future__ import annotations

from ranvier.infer.early_exit.calibrate import (
    Calibration,
    ExitResult,
    Oracle,
    Sweep,
    calibrate,
    evaluate_exit,
    fixed_steps,
    oracle,
    record,
    smallest_sufficient,
    sweep,
)
from ranvier.infer.early_exit.criteria import (
    Conformal,
    Criterion,
    DynamicConfidence,
    Entropy,
    FixedSteps,
    Gap,
    LearnedPolicy,
    Patience,
    RandomLike,
    train_policy,
)
from ranvier.infer.early_exit.runner import EarlyExitRunner, ExitRun

__all__ = [
    "Calibration", "Conformal", "Criterion", "DynamicConfidence", "EarlyExitRunner", "Entropy", "ExitResult", "ExitRun",
    "FixedSteps", "Gap", "LearnedPolicy", "Oracle", "Patience", "RandomLike", "Sweep", "calibrate", "evaluate_exit",
    "fixed_steps", "oracle", "record", "smallest_sufficient", "sweep", "train_policy",
]  # fmt: skip
