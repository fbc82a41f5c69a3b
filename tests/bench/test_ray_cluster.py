"""The Ray runner, where Ray is installed and starts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ranvier import bench
from ranvier.bench.suite import parse_suite

# starting Ray takes longer than all other tests of this folder together
pytestmark = pytest.mark.skipif(not os.environ.get("RANVIER_TEST_RAY"), reason="set RANVIER_TEST_RAY=1 to start Ray")


def test_cells_run_on_ray_and_failures_are_told(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    suite = parse_suite({
        "name": "tiny", "version": 1, "title": "Tiny", "budget_minutes": 1,
        "base": {"data": {"limit_train": 300}, "train": {"epochs": 1}},
        "models": [{"name": "spiking_mlp", "label": "good", "args": {"hidden": [8]}},
                   {"name": "spiking_mlp", "label": "bad", "args": {"hiden": [8]}}],
        "data": ["digits"], "seeds": [0],
    })  # fmt: skip
    try:
        outcome = bench.run(suite, tmp_path, workers=2, runner="ray", threads=1, show_progress=False)
    finally:
        ray.shutdown()
    assert [result.model.label for result in outcome.results] == ["good"]
    assert "hidden" in outcome.failures[0].error and bench.validate(tmp_path) == []
