"""A small claim whose outcome is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from ranvier.claims import Arm, Bound, Claim, Metric, Order, Outcome, Scale, Trial


def toy(**changes: Any) -> Claim:
    """Arms `low`, `middle`, `high` at 0, 1 and 2, with a little noise from the seed."""

    def run(trial: Trial) -> Outcome:
        assert trial.arm is not None
        level = trial.arm.settings["level"] + 0.01 * trial.seed
        return Outcome({"score": level, "cost": 2.0}, {"path": [(1, level), (2, level + 1)]}, ["a <b>note</b>"])

    described: dict[str, Any] = {
        "name": "toy_levels", "title": "Levels <script>", "paper": "Nobody (2020)", "statement": "Levels rise.",
        "question": "Do they?", "data": "none", "system": "toy",
        "arms": tuple(Arm(n, f"the {n} one", {"level": float(i)}) for i, n in enumerate(("low", "middle", "high"))),
        "metrics": (Metric("score", "Score"), Metric("cost", "Cost", "J", higher_is_better=False)),
        "rules": (
            Order("score", ("low", "middle", "high"), margin=0.5),
            Bound("cost", "high", at_most=2.0, exact=True),
        ),
        "scales": {"quick": Scale((0, 1, 2), 0.1, {"steps": 3}), "full": Scale((0, 1), 1.0)},
        "run": run,
    }  # fmt: skip
    return Claim(**(described | changes))


@pytest.fixture
def toy_claim() -> Callable[..., Claim]:
    return toy


def joint_run(trial: Trial) -> Mapping[str, Outcome]:
    return {arm.name: Outcome({"score": arm.settings["level"], "cost": 1.0 + trial.seed}) for arm in trial.arms}
