from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Ranvier = Callable[..., Any]


def test_json_names_every_area(ranvier: Ranvier) -> None:
    outcome = ranvier("doctor", "--json")
    report = json.loads(outcome.out)
    assert {f["area"] for f in report["findings"]} == {"versions", "devices", "kernels", "extras", "data", "cache"}
    assert outcome.code == (0 if report["healthy"] else 1)


def test_a_problem_ends_in_exit_code_one(ranvier: Ranvier, tmp_path: Path) -> None:
    outcome = ranvier("doctor", "--data-root", str(tmp_path / "nowhere"))
    assert outcome.code == 1
    assert "PROBLEM" in outcome.out
    assert "point it to your data sets" in outcome.out
