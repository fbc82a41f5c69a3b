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
from ranvier.infer.early_exit.named import CALIBRATED, CRITERIA, criterion_settings, fitted, named_criterion
from ranvier.infer.early_exit.policy import BETAS, FittedPolicy, PolicyNet, fit_policy
from ranvier.infer.early_exit.runner import EarlyExitRunner, ExitRun
from ranvier.infer.early_exit.smoothing import ALPHAS, calibrate_alpha, fit_alpha
from ranvier.infer.early_exit.stream import Decision, EventExit, FrameExit
from ranvier.infer.early_exit.timing import take_turns

__all__ = [
    "ALPHAS", "BETAS", "CALIBRATED", "CRITERIA", "Calibration", "Conformal", "Criterion", "Decision",
    "DynamicConfidence", "EarlyExitRunner", "Entropy", "EventExit", "ExitResult", "ExitRun", "FittedPolicy",
    "FixedSteps", "FrameExit", "Gap", "LearnedPolicy", "Oracle", "Patience", "PolicyNet", "RandomLike", "Sweep",
    "calibrate", "calibrate_alpha", "criterion_settings", "evaluate_exit", "fit_alpha", "fit_policy", "fitted",
    "fixed_steps", "named_criterion", "oracle",
    "record", "smallest_sufficient", "sweep", "take_turns", "train_policy",
]  # fmt: skip
