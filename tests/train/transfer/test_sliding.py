"""The replacement schedule: its table, its mean, and what it does to a batch."""

from __future__ import annotations

import math

import pytest
import torch

from ranvier.errors import ArgumentError, ShapeError
from ranvier.train.transfer import SlidingReplacement


def test_table() -> None:
    sliding = SlidingReplacement(300 * 65)
    table = {0: 0.0, 0.25: 0.0156, 0.5: 0.125, 0.75: 0.4219, 0.9: 0.729, 1: 1.0}
    for share, expected in table.items():
        assert sliding.probability(share * 300 * 65) == pytest.approx(expected, abs=1e-4)
    assert sliding.probability(10**9) == 1
    assert sum(sliding.probability(s) for s in range(19_500)) / 19_500 == pytest.approx(0.25, abs=1e-3)


def test_batch_and_epoch() -> None:
    sliding = SlidingReplacement(10 * 7)
    for epoch, batch in ((0, 0), (3, 2), (9, 6)):
        assert sliding.probability(batch + epoch * 7) == pytest.approx(((batch + epoch * 7) / 70) ** 3)


def test_ablations() -> None:
    switch, never = SlidingReplacement(100, mode="switch"), SlidingReplacement(100, mode="none")
    assert [switch.probability(s) for s in (0, 50, 51, 99)] == [0, 0, 1, 1]
    assert {never.probability(s) for s in range(200)} == {0.0}
    assert SlidingReplacement(10, power=0).probability(0) == 1
    assert SlidingReplacement(10, power=1).probability(5) == 0.5


def test_counts_are_binomial() -> None:
    sliding, count = SlidingReplacement(100), 10_000
    for step in (25, 50, 90):
        p = sliding.probability(step)
        found = int(sliding.replaced(count, step, torch.Generator().manual_seed(step)).sum())
        assert abs(found - count * p) < 3 * math.sqrt(count * p * (1 - p))
    assert not sliding.replaced(count, 0).any() and sliding.replaced(count, 100).all()


def test_rows() -> None:
    sliding = SlidingReplacement(10, power=1)
    static, event = torch.rand(64, 2, 4, 4), torch.rand(5, 64, 2, 4, 4)
    rows = sliding.replaced(64, 5, torch.Generator().manual_seed(1))
    mixed = sliding.mix(static, event, 5, torch.Generator().manual_seed(1))
    assert 10 < int(rows.sum()) < 54
    assert torch.equal(mixed[:, rows], event[:, rows])
    assert torch.equal(mixed[:, ~rows], static[~rows].expand(5, -1, -1, -1, -1))
    assert torch.equal(sliding(static, event, 10), event)


def test_draws_come_from_the_global_generator() -> None:
    sliding = SlidingReplacement(2, power=1)
    torch.manual_seed(3)
    first = sliding.replaced(20, 1)
    torch.manual_seed(3)
    assert torch.equal(first, sliding.replaced(20, 1))


def test_bad_input() -> None:
    with pytest.raises(ShapeError, match="T is 3 and 4"):
        SlidingReplacement(5).mix(torch.rand(3, 2, 1, 2, 2), torch.rand(4, 2, 1, 2, 2), 0)
    for arguments in ({"total_steps": 0}, {"total_steps": 5, "power": -1}, {"total_steps": 5, "mode": "x"}):
        with pytest.raises(ArgumentError):
            SlidingReplacement(**arguments)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ArgumentError, match="step"):
        SlidingReplacement(5).probability(-1)
