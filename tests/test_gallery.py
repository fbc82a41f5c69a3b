"""The gallery shows every neuron there is, as it is."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
AGAIN = "run `python scripts/neuron_gallery.py`"


@pytest.fixture(scope="module")
def gallery() -> ModuleType:
    spec = importlib.util.spec_from_file_location("neuron_gallery", ROOT / "scripts" / "neuron_gallery.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["neuron_gallery"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_the_page_names_every_neuron_and_has_its_picture(gallery: ModuleType) -> None:
    page = (ROOT / "docs" / "neurons.md").read_text(encoding="utf-8")
    names = gallery.ours()
    assert len(names) > 20
    for name in names:
        assert f"(`{name}`)" in page and f"assets/neurons/{name}.svg" in page, f"{name} is missing: {AGAIN}"
        picture = ROOT / "docs" / "assets" / "neurons" / f"{name}.svg"
        assert picture.exists() and picture.stat().st_size < 60_000, f"{name}: {AGAIN}"
    assert {p.stem for p in (ROOT / "docs" / "assets" / "neurons").glob("*.svg")} == set(names), AGAIN


def test_every_neuron_is_shown_spiking(gallery: ModuleType) -> None:
    for name in gallery.ours():
        plot = gallery.PLOTS.get(name, gallery.Plot())
        output, trace = gallery.run(name, plot)
        assert output.any() and not output.all(), f"{name} is not seen to fire"
        assert torch.isfinite(output).all() and (trace is None or torch.isfinite(trace).all())
