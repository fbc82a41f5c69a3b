"""Every neuron in every precision, as `docs/numerics.md` says."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from ranvier.neurons import NEURONS

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def numerics(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    monkeypatch.setenv("RANVIER_BACKEND", "reference")
    import numerics

    yield numerics
    for name in ("numerics", "neuron_gallery"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", sorted(NEURONS))
def test_half_precision_differs_from_double_by_the_rounding_of_the_input_only(name: str, numerics: Any) -> None:
    row = numerics.measure(name, batch=2, width=16)
    if row.state["fp64"]:
        assert row.state == {"fp16": "float32", "bf16": "float32", "fp32": "float32", "fp64": "float64"}
    assert row.rate > 0.005
    assert max(row.arithmetic.values()) < 5e-3  # the state is float32 whatever goes in
    assert row.rounded["fp32"] < 5e-3
    assert row.rounded["fp16"] < 0.03 and row.rounded["bf16"] < 0.06


def test_the_page_has_every_neuron() -> None:
    page = (ROOT / "docs" / "numerics.md").read_text(encoding="utf-8")
    for name in NEURONS:
        assert f"| `{name}` |" in page, "run scripts/numerics.py"
