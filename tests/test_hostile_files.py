"""What is no file of its format ends in one clear error: a short run of `scripts/fuzz_readers.py`, itself checked."""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from ranvier.errors import DataError

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "fuzz_readers.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fuzz_readers", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


fuzzing = load()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="cases run in forked processes")
@pytest.mark.parametrize("target", fuzzing.TARGETS, ids=lambda t: t.name)
def test_damaged_files_are_read_or_refused(target: object) -> None:
    outcome = fuzzing.fuzz(target, 60)
    if outcome.cases == 0:
        pytest.skip("needs a recording of RANVIER_DATA")
    assert outcome.cases == 60
    assert outcome.findings == []


def _read(path: Path) -> object:
    number = path.read_bytes()[0]
    if number == 0:
        raise DataError("no")
    if number == 1:
        raise KeyError("leak")
    if number == 2:
        os.kill(os.getpid(), 9)
    if number == 3:
        time.sleep(60)
    if number == 4:
        return [bytearray(120 * 2**20)]
    return number


@pytest.mark.skipif(not hasattr(os, "fork"), reason="cases run in forked processes")
def test_the_harness_sees_errors_crashes_hangs_and_greed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzzing, "case", lambda target, sound, number: bytes([number]))
    target = fuzzing.Target("bytes", lambda: b"\x09", _read)
    outcome = fuzzing.fuzz(target, 7, seconds=3, memory=50)
    told = "\n".join(outcome.findings)
    assert "case 1: KeyError: 'leak'" in told
    assert "case 2: the process died (signal 9)" in told
    assert "case 3: takes more than 3 s" in told
    assert "case 4: more than 50 MiB" in told
    assert len(outcome.findings) == 4, told
    assert (outcome.cases, outcome.read, outcome.refused) == (7, 2, 1)


def test_cases_are_the_same_every_time() -> None:
    target = fuzzing.TARGETS[0]
    sound = target.sound()
    assert fuzzing.case(target, sound, 7) == fuzzing.case(target, sound, 7) != fuzzing.case(target, sound, 8)
