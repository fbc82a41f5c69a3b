"""What a claim is: a published statement, the experiment that tests it, and the verdict's rules, fixed beforehand."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ranvier.errors import ArgumentError

if TYPE_CHECKING:
    from ranvier.claims.figure import Figure
    from ranvier.claims.rules import Rule
    from ranvier.claims.table import Table

NAME = re.compile(r"^[a-z][a-z0-9]*(_[a-z0-9]+)*$")


@dataclass(frozen=True)
class Arm:
    """One side of the comparison. `settings` (JSON values) is all that may tell it from the others."""

    name: str
    description: str
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Metric:
    """A figure that each trial gives: its unit and which way is better (`None`: neither)."""

    name: str
    description: str
    unit: str = ""
    higher_is_better: bool | None = True
    digits: int = 2


@dataclass(frozen=True)
class Scale:
    """How large the experiment is run: `settings` reach every trial, `minutes` is what to expect on two cores."""

    seeds: tuple[int, ...]
    minutes: float
    settings: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class Trial:
    """What one call of `Claim.run` is asked for: an arm (or all, for joint claims), a seed and the scale's settings."""

    claim: str
    arm: Arm | None
    arms: tuple[Arm, ...]
    seed: int
    scale: str
    settings: Mapping[str, Any]
    threads: int = 1


@dataclass(frozen=True)
class Outcome:
    """What a trial found: one number a metric, and named curves `(x, y)` for the figures.

    Numbers must be finite. `notes` are shown with the result.
    """

    metrics: Mapping[str, float]
    curves: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Claim:
    """A published statement as an experiment.

    Args:
        name: lower case with underscores; what `ranvier claims run` takes.
        title: a line for people.
        paper: authors, year, title, and the table or section that makes the statement.
        statement: what the paper says, in our words.
        question: what this experiment asks, and how it differs from the paper's own.
        data: what is trained and tested on; never simulated where real data can be had.
        arms: the sides of the comparison; each gets the same tuning.
        metrics: the figures of each trial.
        rules: decide the verdict; written before the experiment was run.
        scales: by name; `quick` must be there and runs in minutes on two cores.
        run: one trial; gets a `Trial`, returns an `Outcome`, for a `joint` claim a mapping from arm name to `Outcome`.
        joint: one call gives all arms of a seed (when they share a trained net, say).
        figures: from the finished `Table` to figures; default: a bar chart of the first metric.
        version: raised when the experiment changes its meaning; older trials are then run again.
        system: name of the system it belongs to.
        comment: what a reader of the result should know; shown on the page.
    """

    name: str
    title: str
    paper: str
    statement: str
    question: str
    data: str
    arms: tuple[Arm, ...]
    metrics: tuple[Metric, ...]
    rules: tuple[Rule, ...]
    scales: Mapping[str, Scale]
    run: Callable[[Trial], Outcome | Mapping[str, Outcome]]
    joint: bool = False
    figures: Callable[[Table], Sequence[Figure]] | None = None
    version: int = 1
    system: str = ""
    comment: str = ""

    def __post_init__(self) -> None:
        if not NAME.match(self.name):
            raise ArgumentError(f"name: expected lower case words joined by '_', got {self.name!r}")
        for what, names in (("arms", [arm.name for arm in self.arms]), ("metrics", [m.name for m in self.metrics])):
            if not names or len(set(names)) != len(names):
                raise ArgumentError(f"{what} of claim {self.name!r}: expected at least one, with distinct names")
        if "quick" not in self.scales:
            raise ArgumentError(f"scales of claim {self.name!r}: expected one named 'quick', got {list(self.scales)}")
        if not self.rules:
            raise ArgumentError(f"rules of claim {self.name!r}: a claim without a rule has no verdict")
        for rule in self.rules:
            rule.check({arm.name for arm in self.arms}, {metric.name for metric in self.metrics})

    def arm(self, name: str) -> Arm:
        """The arm of that name."""
        return next(arm for arm in self.arms if arm.name == name)

    def metric(self, name: str) -> Metric:
        """The metric of that name."""
        return next(metric for metric in self.metrics if metric.name == name)
