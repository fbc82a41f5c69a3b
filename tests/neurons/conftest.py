"""What the tests of neurons share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.shape_contract import shapes_checked


@pytest.fixture
def plain_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The equations themselves, in plain torch: that kernels agree with them is tested beside the kernels."""
    monkeypatch.setenv("RANVIER_BACKEND", "reference")


@pytest.fixture(autouse=True)
def contracts(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every call of a neuron in these tests keeps shape and dtype."""
    if "compile" in request.node.name:  # which warns about hooks on all modules
        yield
        return
    with shapes_checked():
        yield
