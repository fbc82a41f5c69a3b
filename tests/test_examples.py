"""Every script and notebook of `examples/` runs, and says what its README promises."""

from __future__ import annotations

import importlib.util
import json
import re
import runpy
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
EXPECTED = {
    "train_by_hand": r"epoch 3: test accuracy 9\d\.\d%",
    "own_neuron": r"fused[\s\S]*gradient reaches the first step: True\nin two pieces as in one: True",
    "stream_frames": r"(a \d: decided \d after \d+ frames, confidence 0\.\d+\n){5}",
    "measure_energy": r"is silent: [\s\S]*spike-driven: [\s\S]*synaptic operations a sample",
    "deploy": r"equal: [\s\S]*binary spikes enter 2 layers[\s\S]*compiled: test accuracy 9\d\.\d%",
}
SAID = {
    "a_neuron_of_your_own": r"^fused$[\s\S]*^LIF: 20 spikes[\s\S]*^Tiring: 9 spikes[\s\S]*lif: 9\d\.\d% right",
    "from_pixels_to_a_decision": r"^after step 4: 9\d[\s\S]*^spike-driven: [\s\S]*threshold 0\.99: [1-4]\.\d+ steps, 9",
}


@pytest.fixture(scope="module")
def pages() -> ModuleType:
    spec = importlib.util.spec_from_file_location("notebook_pages", EXAMPLES.parent / "scripts" / "notebook_pages.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["notebook_pages"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_the_readme_lists_them() -> None:
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert {s.stem for s in SCRIPTS} == set(EXPECTED) == set(re.findall(r"`(\w+)\.py`", text))
    assert {n.stem for n in NOTEBOOKS} == set(SAID) == set(re.findall(r"`(\w+)\.ipynb`", text))


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda s: s.stem)
def test_examples_run(script: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = torch.get_rng_state()
    try:
        runpy.run_path(str(script), run_name="__main__")
    finally:
        torch.set_rng_state(state)
    assert re.search(EXPECTED[script.stem], capsys.readouterr().out)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda n: n.stem)
def test_notebooks_are_well_formed_and_hold_no_outputs(notebook: Path) -> None:
    content = json.loads(notebook.read_text(encoding="utf-8"))
    assert (content["nbformat"], content["nbformat_minor"]) == (4, 5)
    assert content["metadata"]["kernelspec"]["name"] == "python3"
    cells = content["cells"]
    assert len({cell["id"] for cell in cells}) == len(cells)
    for cell in cells:
        wanted = {"cell_type", "id", "metadata", "source"}
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
            wanted |= {"outputs", "execution_count"}
        assert set(cell) == wanted and cell["cell_type"] in ("code", "markdown") and cell["metadata"] == {}


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda n: n.stem)
def test_notebooks_run_and_their_pages_are_theirs(notebook: Path, pages: ModuleType) -> None:
    from ranvier.neurons import NEURONS

    state = torch.get_rng_state()
    cells = pages.read(notebook)
    try:
        pages.run(cells, notebook.stem)
    finally:
        torch.set_rng_state(state)
        NEURONS._entries.pop("tiring", None)
    printed = "".join(cell.printed for cell in cells)
    assert re.search(SAID[notebook.stem], printed, re.MULTILINE), printed
    text, pictures = pages.page(cells, notebook.stem)
    shown = (pages.PAGES / f"{notebook.stem}.md").read_text(encoding="utf-8")
    said = re.compile(
        r"^```text\n.*?^```$", re.MULTILINE | re.DOTALL
    )  # figures differ a little from machine to machine
    assert said.sub("", shown) == said.sub("", text), "run `python scripts/notebook_pages.py`"
    assert pictures and all(
        (pages.PICTURES / name).read_text(encoding="utf-8").startswith("<?xml") for name in pictures
    )
