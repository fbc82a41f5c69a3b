"""Two processes share each batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ranvier.train import Recipe, fit, read_journal


@pytest.mark.slow
def test_two_processes_do_the_work_of_one(
    small: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANVIER_BACKEND", "reference")  # nothing to compile in the processes
    # Plain SGD without batch statistics would be equal; with BatchNorm the two only agree closely.
    changes = {"epochs": 8, "accumulate": 2, "clip_norm": 5.0, "ema": 0.5, "checkpoint_steps": 3}
    alone = fit(small(train=changes), tmp_path / "one", progress=False)
    both = fit(small(train={**changes, "devices": 2}), tmp_path / "two", progress=False)
    assert (both.steps, both.test.n) == (alone.steps, alone.test.n)
    assert both.test.accuracy > 0.6
    assert abs(both.test.accuracy - alone.test.accuracy) < 0.2
    one, two = (read_journal(tmp_path / name / "metrics.jsonl") for name in ("one", "two"))
    assert [line["step"] for line in one] == [line["step"] for line in two]
    assert two[0]["loss"] == pytest.approx(one[0]["loss"], rel=0.1)
