"""Verdict rules on hand-made tables."""

from __future__ import annotations

import pytest

from ranvier.claims import Arm, Bound, Check, Claim, Close, Metric, Order, Outcome, Ratio, Scale, Spread, Table
from ranvier.claims.rules import Finding, Rule, verdict
from ranvier.errors import ArgumentError


def table(**values: list[float]) -> Table:
    claim = Claim(
        name="made", title="", paper="", statement="", question="", data="",
        arms=tuple(Arm(name, "") for name in values), metrics=(Metric("m", "M"),),
        rules=(Check("any", lambda table: ("holds", "")),), scales={"quick": Scale((0,), 1)},
        run=lambda trial: Outcome({}),
    )  # fmt: skip
    return Table(claim, {(arm, i): Outcome({"m": v}) for arm, vs in values.items() for i, v in enumerate(vs)})


def test_order_uses_paired_differences() -> None:
    # seeds move both arms by far more than the arms differ: unpaired this would be undecided
    rising = table(a=[0.0, 10.0, 20.0], b=[1.0, 11.1, 20.9])
    assert Order("m", ("a", "b")).decide(rising).holds == "holds"
    assert Order("m", ("b", "a")).decide(rising).holds == "fails"
    assert Order("m", ("b", "a"), falling=True).decide(rising).holds == "holds"
    assert Order("m", ("a", "b"), margin=1.0).decide(rising).holds == "undecided"
    assert Order("m", ("a", "b"), margin=2.0).decide(rising).holds == "fails"


def test_every_step_of_an_order_must_hold() -> None:
    made = table(a=[0, 0.1], b=[1, 1.1], c=[0.5, 0.6])
    assert Order("m", ("a", "b", "c")).decide(made).holds == "fails"
    assert Order("m", ("a", "c", "b")).decide(made).holds == "holds"


def test_one_seed_decides_only_exact_rules() -> None:
    made = table(a=[1.0], b=[2.0])
    assert Order("m", ("a", "b")).decide(made).holds == "undecided"
    assert Bound("m", "b", at_least=2.0).decide(made).holds == "undecided"
    assert Bound("m", "b", at_least=2.0, exact=True).decide(made).holds == "holds"
    assert Bound("m", "b", at_least=2.001, exact=True).decide(made).holds == "fails"
    assert Close("m", "a", "b", within=1.0, exact=True).decide(made).holds == "holds"
    assert Close("m", "a", "b", within=0.9, exact=True).decide(made).holds == "fails"


def test_bound_needs_more_than_the_standard_error() -> None:
    made = table(a=[0.9, 1.1, 1.0, 1.2])  # mean 1.05, standard error 0.065
    assert Bound("m", "a", at_least=0.98).decide(made).holds == "holds"
    assert Bound("m", "a", at_least=1.0).decide(made).holds == "undecided"
    assert Bound("m", "a", at_least=1.2).decide(made).holds == "fails"
    assert Bound("m", "a", at_least=0.9, at_most=1.0).decide(made).holds == "undecided"


def test_ratio_is_taken_seed_by_seed() -> None:
    made = table(a=[2.0, 20.0], b=[1.0, 10.0], zero=[0.0, 1.0])
    assert Ratio("m", "a", "b", at_least=1.99).decide(made).holds == "holds"
    assert Ratio("m", "a", "b", at_most=1.5).decide(made).holds == "fails"
    assert Ratio("m", "a", "zero", at_least=1).decide(made).holds == "undecided"


def test_only_seeds_of_all_arms_count() -> None:
    made = table(a=[1.0, 2.0, 3.0], b=[1.0, 2.0])
    assert made.seeds == [0, 1]
    assert made.spread("m", "a") == Spread(1.5, pytest.approx(0.7071, abs=1e-4), 2)


@pytest.mark.parametrize(
    "rule", [Order("m", ("a", "x")), Order("m", ("a",)), Order("n", ("a", "b")), Bound("m", "a"), Ratio("m", "a", "b"),
             Close("m", "a", "x", 1.0)],
)  # fmt: skip
def test_rules_that_do_not_fit_the_claim_are_refused(rule: Rule) -> None:
    with pytest.raises(ArgumentError):
        rule.check({"a", "b"}, {"m"})


@pytest.mark.parametrize(
    ("said", "word"),
    [
        (["holds", "holds"], "reproduced"), (["holds", "fails"], "partly reproduced"), (["fails"], "not reproduced"),
        (["holds", "undecided"], "undecided"), (["fails", "undecided"], "not reproduced"), (["undecided"], "undecided"),
    ],
)  # fmt: skip
def test_verdict(said: list[str], word: str) -> None:
    findings = [Finding("", holds, "") for holds in said]  # pyright: ignore[reportArgumentType]
    assert verdict(findings) == word
    assert verdict([*findings, Finding("", "fails", "", essential=False)]) == word
