"""What the oldest supported versions cannot do, so that tests skip with the reason; imports that wait."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch


def version(text: str) -> tuple[int, ...]:
    """The first two numbers of a version."""
    return tuple(int(part) for part in text.split("+")[0].split(".")[:2])


def _old_interpreter() -> bool:
    try:
        import triton
    except ImportError:
        return False
    return not torch.cuda.is_available() and version(triton.__version__) < (3, 3) and version(np.__version__) >= (2, 4)


old_compiler = pytest.mark.skipif(
    version(torch.__version__) < (2, 7), reason="PyTorch 2.6 compiles the loop over a neuron's steps, not its kernel"
)
old_opcheck = pytest.mark.skipif(
    version(torch.__version__) < (2, 7), reason="PyTorch 2.6 fails in its own check of operators with dynamic shapes"
)
old_export = pytest.mark.skipif(
    version(torch.__version__) < (2, 7),
    reason="exporters of PyTorch 2.6 fail on batch norms and delays, in one error",
)
interpreted = pytest.mark.skipif(_old_interpreter(), reason="the interpreter of Triton 3.2 needs NumPy before 2.4")


class Later:
    """A module that is imported when something of it is first asked for: not by every process that collects tests."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(import_module(self._name), attribute)
