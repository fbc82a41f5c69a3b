"""A real process is killed with SIGKILL at random moments; what it leaves behind continues to the same bits."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from safetensors.torch import load_file

from ranvier.train import Recipe, fit, read_journal


def kill_after_progress(process: BaseProcess, metrics: Path, delay: float) -> None:
    """SIGKILL `delay` seconds after the first new line of the journal."""
    before = metrics.stat().st_size if metrics.exists() else 0
    deadline = time.monotonic() + 120
    while process.is_alive() and time.monotonic() < deadline:
        size = metrics.stat().st_size if metrics.exists() else 0
        if size > before:
            break
        before = min(before, size)  # a continued run cuts it back first
        time.sleep(0.002)
    time.sleep(delay)
    process.kill()
    process.join()


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_killed_runs_continue_to_the_same_bits(
    small: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANVIER_BACKEND", "reference")  # nothing to compile in each process; kernels have their tests
    recipe = small(
        data={"augment": {"crop": 1, "mixup": 0.4, "mix_off_epoch": 15}},
        model={"args": {"T": 2, "hidden": [24], "dropout": 0.1}},
        train={"epochs": 30, "ema": 0.99, "schedule": "onecycle", "checkpoint_steps": 3, "clip_norm": 2.0},
    )
    whole = fit(recipe, tmp_path / "whole", progress=False)

    # a server that has imported PyTorch and Fabric forks each process, which saves most of its start
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lightning_fabric", "kornia.augmentation", "ranvier.train.session"])
    out = tmp_path / "killed"
    moments = random.Random(1)
    killed = 0
    for _ in range(4):
        process = context.Process(target=fit, args=(recipe, out, True, False))
        process.start()
        kill_after_progress(process, out / "metrics.jsonl", moments.uniform(0.0, 0.3))
        killed += process.exitcode == -signal.SIGKILL and not (out / "model.safetensors").exists()
    assert killed >= 2  # a fast machine may finish before the last ones
    process = context.Process(target=fit, args=(recipe, out, True, False))
    process.start()
    process.join(120)
    assert process.exitcode == 0

    assert (out / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()
    steps = [line["step"] for line in read_journal(out / "metrics.jsonl") if "epoch" not in line]
    assert steps == sorted(set(steps))
    first, second = load_file(tmp_path / "whole" / "model.safetensors"), load_file(out / "model.safetensors")
    assert all(tensor.equal(second[name]) for name, tensor in first.items())
    result = fit(recipe, out, progress=False)
    assert (result.test.accuracy, result.test.loss) == (whole.test.accuracy, whole.test.loss)
    assert result.selected_epoch == whole.selected_epoch
    assert not list((out / "checkpoints").glob("*.tmp"))
