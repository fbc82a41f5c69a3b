from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from ranvier.cli import main


@dataclass
class Outcome:
    code: int
    out: str
    err: str


Ranvier = Callable[..., Outcome]


@pytest.fixture
def ranvier(capsys: pytest.CaptureFixture[str]) -> Ranvier:
    """Runs the command line in this process."""

    def run(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = main([str(a) for a in arguments])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run
