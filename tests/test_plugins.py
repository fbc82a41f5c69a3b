"""Neurons, models and data sets in a file of one's own: known to the command line and to every process."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from tests.warm import module, with_trainer

OWN = """
import torch
from ranvier.neurons import NEURONS, Neuron

@NEURONS.register("hesitant")
class Hesitant(Neuron):
    state_names = ("v",)

    def __init__(self, threshold=1.0, surrogate="sigmoid"):
        super().__init__(surrogate)
        self.threshold = threshold

    def initial_state(self, like):
        return (torch.zeros_like(like),)

    def step(self, x_t, state):
        v = 0.5 * state[0] + x_t
        spike = self.surrogate(v - self.threshold)
        return spike, (v * (1 - spike),)
"""


def ranvier(folder: Path, plugins: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"RANVIER_PLUGINS": plugins, "RANVIER_CACHE": str(folder / "kernels")}
    program, *rest = (module(arguments[1]), *arguments[2:]) if arguments[0] == "-m" else arguments[1:]
    return with_trainer().run(program, *rest, cwd=folder, env=environment)


def test_a_neuron_in_a_file_is_a_neuron_everywhere(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    said = ranvier(
        tmp_path, "mine.py", "-m", "ranvier", "energy", "spiking_mlp", "neuron.type=hesitant", "T=2", "--json"
    )
    assert said.returncode == 0, said.stderr
    assert "Hesitant" in said.stdout
    code = "from ranvier.neurons import build; print(type(build('hesitant')).__module__)"
    said = ranvier(tmp_path, "mine", "-c", code)  # as a module, and without the command line
    assert said.stdout.strip() == "mine", said.stderr


@pytest.mark.parametrize(
    ("content", "plugins", "expected"),
    [
        (None, "mine.py", "names the file mine.py, which does not exist"),
        (None, "no_such_module", "importing no_such_module failed: ModuleNotFoundError"),
        ("1 / 0", "mine.py", "importing mine.py failed: ZeroDivisionError: division by zero"),
        (OWN.replace("hesitant", "lif"), "mine.py", "neuron 'lif' is already registered"),
        ("", "json.py", "does not exist"),
    ],
)
def test_what_cannot_be_imported_is_one_line(content: str | None, plugins: str, expected: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "mine.py").write_text(content)
    said = ranvier(tmp_path, plugins, "-m", "ranvier", "models", "spiking_mlp")
    assert said.returncode == 2 and said.stdout == ""
    assert said.stderr.startswith("error: RANVIER_PLUGINS") and said.stderr.count("\n") == 1
    assert expected in said.stderr


def test_several_are_separated_as_in_path(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    (tmp_path / "other.py").write_text(OWN.replace("hesitant", "eager").replace("Hesitant", "Eager"))
    code = "from ranvier.neurons import NEURONS; print('hesitant' in NEURONS, 'eager' in NEURONS, 'shy' in NEURONS)"
    said = ranvier(tmp_path, os.pathsep.join(("mine.py", "other.py")), "-c", code)
    assert said.stdout.split() == ["True", "True", "False"], said.stderr


CLAIM = """
from ranvier.claims import Arm, Bound, Claim, Metric, Outcome, Scale

CLAIM = Claim(
    name="own_halves", title="A half", system="own", paper="none", statement="A half is a half.", question="Is it?",
    data="none", arms=(Arm("half", "one half", {}),), metrics=(Metric("share", "Share", "", digits=2),),
    rules=(Bound("share", "half", at_most=0.5, exact=True),), run=lambda trial: Outcome({"share": 0.5}),
    scales={"quick": Scale(seeds=(0,), minutes=0.1, settings={})},
)
"""


def test_a_claim_in_a_file_is_listed_and_runs(tmp_path: Path) -> None:
    (tmp_path / "halves.py").write_text(CLAIM)
    said = ranvier(tmp_path, "halves.py", "-m", "ranvier", "claims", "run", "own_halves", "--out", "runs/halves")
    assert said.returncode == 0 and "own_halves: reproduced" in said.stdout, said.stderr
