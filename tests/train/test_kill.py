"""A real process is killed with SIGKILL at random moments; what it leaves behind continues to the same bits."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from ranvier.train import Recipe, fit, read_journal

SCRIPT = (
    "import sys; from ranvier.train import fit, load_recipe; fit(load_recipe(sys.argv[1]), sys.argv[2], progress=False)"
)


def start(recipe: Path, out: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", SCRIPT, str(recipe), str(out)])


def kill_after_progress(process: subprocess.Popen[bytes], metrics: Path, delay: float) -> None:
    """SIGKILL `delay` seconds after the first new line of the journal."""
    before = metrics.stat().st_size if metrics.exists() else 0
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if metrics.exists() and metrics.stat().st_size > before:
            break
        before = min(before, metrics.stat().st_size) if metrics.exists() else 0  # it is cut back first
        time.sleep(0.002)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_killed_runs_continue_to_the_same_bits(small: Callable[..., Recipe], tmp_path: Path) -> None:
    recipe = small(
        data={"augment": {"crop": 1, "mixup": 0.4, "mix_off_epoch": 30}},
        model={"args": {"T": 2, "hidden": [24], "dropout": 0.1}},
        train={"epochs": 60, "ema": 0.99, "schedule": "onecycle", "checkpoint_steps": 3, "clip_norm": 2.0},
    )
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    whole = fit(recipe, tmp_path / "whole", progress=False)

    out = tmp_path / "killed"
    moments = random.Random(1)
    killed = 0
    for _ in range(3):
        process = start(tmp_path / "recipe.yaml", out)
        kill_after_progress(process, out / "metrics.jsonl", moments.uniform(0.0, 0.8))
        killed += process.returncode == -signal.SIGKILL
    assert killed >= 2  # a fast machine may finish the last one first
    process = start(tmp_path / "recipe.yaml", out)
    assert process.wait(timeout=120) == 0

    assert (out / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()
    steps = [line["step"] for line in read_journal(out / "metrics.jsonl") if "epoch" not in line]
    assert steps == sorted(set(steps))
    first, second = load_file(tmp_path / "whole" / "model.safetensors"), load_file(out / "model.safetensors")
    assert all(tensor.equal(second[name]) for name, tensor in first.items())
    result = fit(recipe, out, progress=False)
    assert (result.test.accuracy, result.test.loss) == (whole.test.accuracy, whole.test.loss)
    assert result.selected_epoch == whole.selected_epoch
    assert not list((out / "checkpoints").glob("*.tmp"))
