"""`ranvier export` and `ranvier stream`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ranvier.data.events import EVENT_DTYPE
from ranvier.infer import from_nir

Ranvier = Callable[..., Any]
SMALL = ("spiking_conv_net", "img_size=8", "in_channels=2", "channels=[4]", "hidden=8")


def test_nir_comes_out_and_back(ranvier: Ranvier, tmp_path: Path) -> None:
    pytest.importorskip("nir")
    done = ranvier("export", "spiking_mlp", "hidden=[12]", "--to", "nir", "--out", tmp_path / "m.nir", "--json")
    assert done.code == 0, done.err
    facts = json.loads(done.out)
    assert facts["nodes"]["LIF"] == 1 and facts["dt"] == 1e-4
    assert from_nir(tmp_path / "m.nir")(torch.rand(3, 1, 1, 8, 8)).shape == (3, 1, 10)
    done = ranvier("export", *SMALL, "--out", tmp_path / "m.nir", "--target", "snntorch")
    assert done.code == 2 and "SumPool2d" in done.err


def test_an_exported_program(ranvier: Ranvier, tmp_path: Path) -> None:
    path = tmp_path / "m.pt2"
    done = ranvier("export", "spiking_mlp", "hidden=[12]", "--to", "torch", "--out", path, "--json")
    assert done.code == 0, done.err
    facts = json.loads(done.out)
    assert facts["difference"] < 1e-5 and facts["initial"] == {"state.neurons.0.v": 0.0} and path.exists()


def _recording(path: Path) -> Path:
    rng = np.random.default_rng(0)
    events: np.ndarray[Any, Any] = np.zeros(3000, EVENT_DTYPE)
    events["t"] = np.sort(rng.integers(0, 200_000, 3000))
    events["x"], events["y"], events["p"] = (rng.integers(0, n, 3000) for n in (16, 16, 2))
    np.save(path, events)
    return path


def test_a_recording_gives_decisions_and_a_summary(ranvier: Ranvier, tmp_path: Path) -> None:
    path = _recording(tmp_path / "a.npy")
    done = ranvier("stream", *SMALL, "--input", path, "--steps", 5, "--engine", "torch", "--exit", "patience:steps=9")
    assert done.code == 0, done.err
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert [line["type"] for line in lines] == ["decision"] * 4 + ["summary"]
    assert lines[-1]["events_in_frames"] == 3000 and lines[-1]["frames"] == 20
    once = ranvier("stream", *SMALL, "--input", path, "--engine", "torch", "--once", "--steps", 5)
    assert [json.loads(line)["type"] for line in once.out.splitlines()] == ["decision", "summary"]


def test_a_load_test_says_whether_it_held(ranvier: Ranvier) -> None:
    done = ranvier("stream", *SMALL, "--load-test", "2e4", "--seconds", "0.2", "--engine", "torch")
    report = json.loads(done.out)
    assert done.code == (0 if report["held"] else 1) and report["in_frames"] == report["sent"] == 4000


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        ((), 2, "--input"),
        (("--input", "none.raw"), 3, "no such file"),
        (("--input", "x", "--load-test", "5"), 2, "--input"),
        (("--load-test", "5", "--exit", "confidnce"), 2, "confidence"),
        (("--input", "tcp://nowhere", "--engine", "torch"), 2, "address"),
        (("--load-test", "5", "--sensor", "12"), 2, "HEIGHTxWIDTH"),
    ],
)
def test_wrong_use_is_one_clear_line(ranvier: Ranvier, arguments: tuple[str, ...], code: int, named: str) -> None:
    done = ranvier("stream", *SMALL, *arguments)
    assert done.code == code and named in done.err and done.err.count("\n") == 1, done.err
