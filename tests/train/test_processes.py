"""Two processes share each batch."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.warm import with_trainer

from ranvier.train import Recipe, fit, read_journal


def test_a_spawned_process_does_not_import_all_of_torchmetrics() -> None:
    from ranvier.train.launcher import Launcher

    sent = pickle.dumps(Launcher(SimpleNamespace(), "spawn")._wrapping_function)  # pyright: ignore[reportArgumentType]
    program = (
        "import pickle, sys; pickle.loads(bytes.fromhex(sys.argv[1])); "
        "assert 'lightning_fabric' in sys.modules; assert 'torchmetrics' not in sys.modules"
    )
    done = with_trainer().run(program, sent.hex())
    assert done.returncode == 0, done.stderr


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
