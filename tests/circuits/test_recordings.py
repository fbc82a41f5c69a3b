"""Recorded populations: layout, normalisation, fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ranvier.circuits import fit, load_recordings, model_tuning, synthetic_recordings
from ranvier.errors import ArgumentError, DataError


def test_a_file_of_recordings(tmp_path: Path) -> None:
    made = synthetic_recordings()
    path = tmp_path / "v1.npz"
    np.savez(path, uniform=made.uniform.numpy(), biased=made.biased.numpy(), p_adapt=np.array(made.p_adapt))
    read = load_recordings(path)
    assert read.uniform.equal(made.uniform) and read.biased.equal(made.biased) and read.p_adapt == made.p_adapt
    low, high = read.group(0.3, 0.4), read.group(0.5, 0.5)
    assert len(low.p_adapt) == 6 and len(high.p_adapt) == 5
    before, after = low.normalised()
    assert float(before.amin(-1).abs().max()) == 0 and float(before.amax(-1).min()) == 1
    # the units around the adapter respond less than before, those far from it more
    peak = after.amax(-1).mean(0)
    assert float(peak[6]) < 0.8 and float(peak[0]) > 1.05


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"biased": np.zeros((2, 13, 20))}, r"biased must be \[2, 13, 21\]"),
        ({"p_adapt": np.array([0.5, 1.5])}, "p_adapt"),
        ({"uniform": np.full((2, 13, 21), np.nan)}, "NaN"), ({"uniform": None}, "no array 'uniform'"),
        ({"uniform": np.array(["a"])}, "not an .npz file of numbers"), ({"uniform": np.array([{}])}, "numbers"),
    ],
)  # fmt: skip
def test_wrong_files_are_explained(tmp_path: Path, change: dict[str, object], said: str) -> None:
    content = {"uniform": np.ones((2, 13, 21)), "biased": np.ones((2, 13, 21)), "p_adapt": np.array([0.3, 0.5])}
    np.savez(tmp_path / "x.npz", **{k: v for k, v in (content | change).items() if v is not None})  # pyright: ignore
    with pytest.raises(DataError, match=said):
        load_recordings(tmp_path / "x.npz")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"plain text"])
def test_broken_files_are_explained(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"x\.npz"):
        load_recordings(tmp_path / "x.npz")
    with pytest.raises(DataError, match="cannot be read"):
        load_recordings(tmp_path / "nothing.npz")


def test_a_fit_finds_what_made_the_data() -> None:
    truth = {"alpha": 6.0, "gamma": 0.2, "excitation": 4.5, "width": 12.0, "inhibition": -0.3, "fwhm": 22.0}
    made = synthetic_recordings(noise=0.0, **truth)
    start_error = fit(made, most=1)[1]
    found, error = fit(made, most=150)
    assert error < 0.05 * start_error
    assert found["fwhm"] == pytest.approx(22.0, abs=1.5)
    with pytest.raises(ArgumentError, match="start: unknown parameter 'beta'"):
        fit(made, {"beta": 1.0})


def test_silent_units_and_empty_groups() -> None:
    made = synthetic_recordings()
    made.uniform[0, 0] = 0
    with pytest.raises(DataError, match="does not respond"):
        made.normalised()
    with pytest.raises(ArgumentError, match="no recording"):
        made.group(0.9, 1.0)
    with pytest.raises(ArgumentError, match="multiples of 13"):
        model_tuning(0.3, neurons=100)
