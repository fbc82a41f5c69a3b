"""Rules of a verdict. Each compares arms over the same seeds and says: holds, fails, or undecided.

A difference counts when it exceeds its own standard error over seeds (paired, so that what a seed does to all arms
cancels). With one seed nothing is known of the spread, so a rule can at best be undecided, unless it says that it is
`exact` (no randomness in what it checks).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Set
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, Protocol

from ranvier.claims.spread import Spread
from ranvier.errors import ArgumentError, nearest

if TYPE_CHECKING:
    from ranvier.claims.table import Table

Holds = Literal["holds", "fails", "undecided"]


@dataclass(frozen=True)
class Finding:
    """What one rule says of a finished experiment, and the figures it went by."""

    rule: str
    holds: Holds
    detail: str
    essential: bool = True


class Rule(Protocol):
    """A rule is decided on the table of a finished experiment. One that is not `essential` never refutes a claim."""

    @property
    def essential(self) -> bool: ...

    def text(self) -> str:
        """The rule as a sentence."""
        ...

    def check(self, arms: Set[str], metrics: Set[str]) -> None:
        """Raise `ArgumentError` for names that the claim does not have."""
        ...

    def decide(self, table: Table) -> Finding: ...


def _known(name: str, names: Set[str], what: str) -> None:
    if name not in names:
        raise ArgumentError(f"rule: the claim has no {what} {name!r}{nearest(name, names)}")


def verdict_of(difference: Spread, margin: float = 0.0, exact: bool = False) -> Holds:
    """Whether a mean difference lies above `margin` by more than its standard error, below it, or neither."""
    error = 0.0 if exact else difference.standard_error
    if error is None:
        return "undecided"
    if difference.mean - error > margin or (exact and difference.mean >= margin):
        return "holds"
    return "fails" if difference.mean + error < margin else "undecided"


def _limits(at_least: float | None, at_most: float | None) -> str:
    low = f" ≥ {at_least:g}" if at_least is not None else ""
    high = f" ≤ {at_most:g}" if at_most is not None else ""
    return f"{low}{' and' if low and high else ''}{high}"


def _within(values: list[float], at_least: float | None, at_most: float | None, exact: bool) -> Holds:
    said: list[Holds] = []
    if at_least is not None:
        said.append(verdict_of(Spread.of([v - at_least for v in values]), exact=exact))
    if at_most is not None:
        said.append(verdict_of(Spread.of([at_most - v for v in values]), exact=exact))
    return _all(said)


@dataclass(frozen=True)
class Order:
    """`metric` rises from arm to arm, each step by more than `margin` and its standard error over paired seeds.

    Of a metric where lower is better, list the arms from the largest value down and set `falling`.
    """

    metric: str
    arms: tuple[str, ...]
    margin: float = 0.0
    falling: bool = False
    essential: bool = True

    def text(self) -> str:
        by = f" by more than {self.margin:g}" if self.margin else ""
        return f"{self.metric}: {(' > ' if self.falling else ' < ').join(self.arms)}{by}"

    def check(self, arms: Set[str], metrics: Set[str]) -> None:
        _known(self.metric, metrics, "metric")
        if len(self.arms) < 2:
            raise ArgumentError(f"arms: an order needs at least two, got {self.arms}")
        for arm in self.arms:
            _known(arm, arms, "arm")

    def decide(self, table: Table) -> Finding:
        sign = -1.0 if self.falling else 1.0
        said, details = [], []
        for low, high in pairwise(self.arms):
            gap = table.difference(self.metric, high, low, sign)
            said.append(verdict_of(gap, self.margin))
            details.append(f"{high} − {low}: {gap.scaled(sign)}")
        return Finding(self.text(), _all(said), "; ".join(details), self.essential)


@dataclass(frozen=True)
class Bound:
    """`metric` of `arm` is at least (or at most) a number, by more than its standard error over seeds.

    `exact` rules, without randomness, need no margin: equality holds.
    """

    metric: str
    arm: str
    at_least: float | None = None
    at_most: float | None = None
    exact: bool = False
    essential: bool = True

    def text(self) -> str:
        return f"{self.metric} of {self.arm}{_limits(self.at_least, self.at_most)}"

    def check(self, arms: Set[str], metrics: Set[str]) -> None:
        _known(self.metric, metrics, "metric")
        _known(self.arm, arms, "arm")
        if self.at_least is None and self.at_most is None:
            raise ArgumentError("bound: expected at_least, at_most or both")

    def decide(self, table: Table) -> Finding:
        values = table.values(self.metric, self.arm)
        holds = _within(values, self.at_least, self.at_most, self.exact)
        return Finding(self.text(), holds, f"{self.arm}: {Spread.of(values)}", self.essential)


@dataclass(frozen=True)
class Close:
    """`metric` of two arms differs by at most `within`, with the standard error of the paired difference added."""

    metric: str
    arm: str
    other: str
    within: float
    exact: bool = False
    essential: bool = True

    def text(self) -> str:
        return f"{self.metric} of {self.arm} and {self.other} within {self.within:g}"

    def check(self, arms: Set[str], metrics: Set[str]) -> None:
        _known(self.metric, metrics, "metric")
        for arm in (self.arm, self.other):
            _known(arm, arms, "arm")

    def decide(self, table: Table) -> Finding:
        gap = table.difference(self.metric, self.arm, self.other)
        error = 0.0 if self.exact else gap.standard_error
        holds: Holds = "undecided"
        if error is not None:
            if abs(gap.mean) + error <= self.within:
                holds = "holds"
            elif abs(gap.mean) - error > self.within:
                holds = "fails"
        return Finding(self.text(), holds, f"{self.arm} − {self.other}: {gap}", self.essential)


@dataclass(frozen=True)
class Ratio:
    """`metric` of `arm` over that of `other` (seed by seed) is at least or at most a number, by more than its error."""

    metric: str
    arm: str
    other: str
    at_least: float | None = None
    at_most: float | None = None
    exact: bool = False
    essential: bool = True

    def text(self) -> str:
        return f"{self.metric} of {self.arm} over {self.other}{_limits(self.at_least, self.at_most)}"

    def check(self, arms: Set[str], metrics: Set[str]) -> None:
        _known(self.metric, metrics, "metric")
        for arm in (self.arm, self.other):
            _known(arm, arms, "arm")
        if self.at_least is None and self.at_most is None:
            raise ArgumentError("ratio: expected at_least, at_most or both")

    def decide(self, table: Table) -> Finding:
        pairs = zip(table.values(self.metric, self.arm), table.values(self.metric, self.other), strict=True)
        quotients = [a / b if b else math.nan for a, b in pairs]
        if any(math.isnan(q) for q in quotients):
            return Finding(self.text(), "undecided", f"{self.other} is zero for a seed", self.essential)
        holds = _within(quotients, self.at_least, self.at_most, self.exact)
        return Finding(self.text(), holds, f"ratio: {Spread.of(quotients)}", self.essential)


@dataclass(frozen=True)
class Check:
    """A rule of the claim's own: `test` gets the table and returns (holds | fails | undecided, the figures)."""

    sentence: str
    test: Callable[[Table], tuple[Holds, str]]
    essential: bool = True

    def text(self) -> str:
        return self.sentence

    def check(self, arms: Set[str], metrics: Set[str]) -> None:
        del arms, metrics

    def decide(self, table: Table) -> Finding:
        holds, detail = self.test(table)
        return Finding(self.sentence, holds, detail, self.essential)


def _all(said: list[Holds]) -> Holds:
    if "fails" in said:
        return "fails"
    return "undecided" if "undecided" in said else "holds"


Verdict = Literal["reproduced", "partly reproduced", "not reproduced", "undecided"]


def verdict(findings: list[Finding]) -> Verdict:
    """From findings to a word: all essential rules hold, some do and some fail, none does, or too little is known."""
    said = [finding.holds for finding in findings if finding.essential]
    if all(holds == "holds" for holds in said):
        return "reproduced"
    if "fails" not in said:
        return "undecided"
    return "partly reproduced" if "holds" in said else "not reproduced"
