"""Every script of `examples/` runs, and says what its README promises."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
import torch

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))
EXPECTED = {
    "train_by_hand": r"epoch 3: test accuracy 9\d\.\d%",
    "own_neuron": r"fused[\s\S]*gradient reaches the first step: True\nin two pieces as in one: True",
    "stream_frames": r"(a \d: decided \d after \d+ frames, confidence 0\.\d+\n){5}",
    "measure_energy": r"is silent: [\s\S]*spike-driven: [\s\S]*synaptic operations a sample",
    "deploy": r"equal: [\s\S]*binary spikes enter 2 layers[\s\S]*compiled: test accuracy 9\d\.\d%",
}


def test_the_readme_lists_them() -> None:
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert {s.stem for s in SCRIPTS} == set(EXPECTED) == set(re.findall(r"`(\w+)\.py`", text))


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda s: s.stem)
def test_examples_run(script: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = torch.get_rng_state()
    try:
        runpy.run_path(str(script), run_name="__main__")
    finally:
        torch.set_rng_state(state)
    assert re.search(EXPECTED[script.stem], capsys.readouterr().out)
