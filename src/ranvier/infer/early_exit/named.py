"""Criteria by name, and as plain data: what files and the command line say of them."""

from __future__ import annotations

import inspect
import math
from typing import Any

import torch
from torch import Tensor

from ranvier.errors import ArgumentError, nearest
from ranvier.infer.early_exit.criteria import (
    Conformal,
    Criterion,
    DynamicConfidence,
    Entropy,
    FixedSteps,
    Gap,
    Patience,
    RandomLike,
)

CRITERIA: dict[str, type[Criterion]] = {
    "confidence": DynamicConfidence, "entropy": Entropy, "gap": Gap, "cutoff": Gap, "patience": Patience,
    "conformal": Conformal, "fixed": FixedSteps, "random": RandomLike,
}  # fmt: skip
"""Name of every criterion that plain data describes; a `LearnedPolicy` holds a net and is none of them."""

CALIBRATED = ("confidence", "entropy", "gap", "cutoff", "patience", "conformal", "fixed")
"""Those that `fitted` makes from calibration logits."""


def named_criterion(name: str, **settings: Any) -> Criterion:
    """The criterion of that name, such as `named_criterion("confidence", threshold=0.6, alpha=30.0)`.

    Numbers may be None for infinity, which JSON lacks: −∞ for a threshold (leave at once), ∞ for a bound of a step.
    Raises `ArgumentError` for an unknown name or setting.
    """
    kind = _known(name)
    given = dict(settings)
    if name == "conformal":
        given["quantiles"] = torch.tensor([math.inf if q is None else q for q in given.get("quantiles", ())])
    if name == "cutoff":
        given["per_step"] = [math.inf if b is None else b for b in given.get("per_step", ())]
    threshold = given.pop("threshold", 0.0) if name not in ("conformal", "random", "cutoff") else None
    accepted = inspect.signature(kind).parameters
    for key in given:
        if key not in accepted:
            raise ArgumentError(f"criterion {name!r} takes no setting {key!r}{nearest(key, [*accepted, 'threshold'])}")
    if name in ("patience", "fixed"):
        given.setdefault("steps", 1)
    made = kind(**given)
    if "threshold" in settings:
        made.threshold = -math.inf if threshold is None else float(threshold)
    return made


def criterion_settings(name: str, criterion: Criterion) -> dict[str, Any]:
    """The settings with which `named_criterion(name, **settings)` makes `criterion` again, as JSON values."""
    if isinstance(criterion, Conformal):
        quantiles = [q if math.isfinite(q) else None for q in criterion.quantiles.tolist()]
        return {"quantiles": quantiles, "alpha": criterion.alpha, "size": round(-criterion.threshold - 0.5)}
    if isinstance(criterion, Gap) and criterion.per_step is not None:
        return {"per_step": [b if math.isfinite(b) else None for b in criterion.per_step.tolist()]}
    threshold = criterion.threshold if math.isfinite(criterion.threshold) else None
    if isinstance(criterion, DynamicConfidence | Entropy):
        return {"threshold": threshold, "alpha": criterion.alpha}
    if isinstance(criterion, Gap | Patience | FixedSteps):
        return {"threshold": threshold}
    raise ArgumentError(f"criterion {name!r} ({type(criterion).__name__}) cannot be written as plain data")


def fitted(
    name: str, logits: Tensor, labels: Tensor, alpha: float | None = None, accuracy: float | None = None
) -> Criterion:
    """The criterion of that name with what it learns from calibration logits besides its threshold.

    `alpha` is the smoothing constant of those that have one (their own default without it); `accuracy` is what the
    samples that leave at a step must reach for "cutoff", and 1 − the probability to miss for "conformal" (by default
    that of all steps).
    """
    if name not in CALIBRATED:
        _known(name)
        raise ArgumentError(f"criterion {name!r} is not calibrated; those that are: {', '.join(CALIBRATED)}")
    smoothing = {} if alpha is None else {"alpha": alpha}
    full = float((logits.sum(0).argmax(-1) == labels).double().mean()) if accuracy is None else accuracy
    if name == "cutoff":
        return Gap.cutoff(logits, labels, full)
    if name == "conformal":
        return Conformal.fit(
            logits, labels, miss=min(max(1 - full, 1e-3), 0.999), alpha=1.0 if alpha is None else alpha
        )
    return named_criterion(name, **(smoothing if name in ("confidence", "entropy") else {}))


def _known(name: str) -> type[Criterion]:
    if name not in CRITERIA:
        raise ArgumentError(f"there is no criterion {name!r}{nearest(name, list(CRITERIA))}")
    return CRITERIA[name]
