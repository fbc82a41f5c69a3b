from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest
import torch

from ranvier.measure import doctor
from ranvier.measure.doctor import Finding, examine


def by_subject(findings: list[Finding]) -> dict[tuple[str, str], Finding]:
    return {(f.area, f.subject): f for f in findings}


def test_this_machine_is_healthy() -> None:
    findings = by_subject(examine())
    assert findings["versions", "PyTorch"].found == torch.__version__
    assert findings["kernels", "processor"].status == "ok"
    assert "Numba" in findings["kernels", "processor"].found
    assert "digits" in findings["data", "here"].found
    assert all(f.status != "problem" for key, f in findings.items() if key[0] in ("versions", "kernels"))
    assert all(f.remedy for f in findings.values() if f.status == "problem")


def test_old_torch_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", "2.5.1+cpu")
    assert by_subject(examine())["versions", "PyTorch"].status == "problem"
    monkeypatch.setattr(torch, "__version__", "2.13.0+cpu")
    assert by_subject(examine())["versions", "PyTorch"].status == "ok"


def test_reference_backend_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANVIER_BACKEND", "reference")
    found = by_subject(examine())["kernels", "processor"]
    assert (found.status, found.remedy != "") == ("note", True)


def test_a_kernel_with_other_spikes_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    from ranvier.neurons import LIF

    calls = []

    def wrong(self: LIF, x: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return torch.full_like(x, float(len(calls)))

    monkeypatch.setattr(LIF, "forward", wrong)
    assert by_subject(examine())["kernels", "processor"].status == "problem"


def test_missing_extras_are_named_with_their_command(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["torch>=2.6", 'diffusers>=0.31; extra == "diffusion"', 'h5py>=3.10; extra == "data"']
    monkeypatch.setattr(metadata, "requires", lambda _: lines)
    monkeypatch.setattr(doctor, "_installed", lambda package: package != "diffusers")
    found = by_subject(examine())["extras", "diffusion"]
    assert (found.status, found.found) == ("note", "missing: diffusers")
    assert "ranvier[diffusion]" in found.remedy
    assert by_subject(examine())["extras", "data"].status == "ok"


def test_data_root_that_is_not_there(tmp_path: Path) -> None:
    assert by_subject(examine(tmp_path / "nowhere"))["data", "RANVIER_DATA"].status == "problem"
    assert by_subject(examine(tmp_path))["data", "RANVIER_DATA"].status == "ok"


def test_cache_below_a_file_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANVIER_CACHE", str(tmp_path / "cache"))
    assert by_subject(examine())["cache", "folder"].status == "ok"
    (tmp_path / "cache").write_text("")
    assert by_subject(examine())["cache", "folder"].status == "problem"
