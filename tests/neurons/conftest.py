"""What the tests of neurons share."""

from __future__ import annotations

import pytest


@pytest.fixture
def plain_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The equations themselves, in plain torch: that kernels agree with them is tested beside the kernels."""
    monkeypatch.setenv("RANVIER_BACKEND", "reference")
