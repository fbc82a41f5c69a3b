"""What the tests of layers share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.shape_contract import shapes_checked


@pytest.fixture(autouse=True)
def contracts(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every call of a neuron, an attention, an MLP or a block in these tests keeps its shape."""
    if "compile" in request.node.name:  # which warns about hooks on all modules
        yield
        return
    with shapes_checked():
        yield
