"""Real cells: trained on digits, measured, stored, continued."""

from __future__ import annotations

import json
import os
import signal
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from tests.warm import with_trainer

from ranvier import bench
from ranvier.bench.suite import Suite, parse_suite

if find_spec("lightning_fabric") is None:  # importing it takes seconds
    pytest.skip("training needs the extra 'train'", allow_module_level=True)
if find_spec("sklearn") is None:
    pytest.skip("the digits need scikit-learn", allow_module_level=True)


def suite(**changes: Any) -> Suite:
    document: dict[str, Any] = {
        "name": "tiny", "version": 1, "title": "Tiny", "budget_minutes": 1,
        "base": {"data": {"limit_train": 300, "limit_test": 100}, "train": {"epochs": 8, "lr": 1e-2}},
        "models": [{"name": "spiking_mlp", "label": "MLP", "args": {"hidden": [32], "T": 3}}],
        "data": ["digits"], "seeds": [0],
    }  # fmt: skip
    return parse_suite({**document, **changes})


def test_a_cell_is_trained_measured_and_valid(tmp_path: Path) -> None:
    outcome = bench.run(suite(), tmp_path, runner="inline", threads=1, show_progress=False)
    assert outcome.failures == [] and bench.validate(tmp_path) == []
    (result,) = outcome.results
    # 64 pixels to 32 neurons to 10 classes, two batch norm vectors, one bias
    assert result.model.params == 64 * 32 + 2 * 32 + 32 * 10 + 10
    assert result.model.steps == 3 and len(result.accuracy_by_step) == 3
    assert result.metrics["accuracy"].n == 100 and result.accuracy > 0.3
    assert [epoch.epoch for epoch in result.curve] == list(range(1, 9)) and result.epochs_trained == 8
    # the image enters the first layer at each of three steps, spikes enter the second
    first, second = result.spikes.values()
    assert first.macs == 3 * 64 * 32 and first.input_class == "real"
    assert second.macs == 3 * 32 * 10 and second.synops <= second.macs
    assert result.model.spike_driven is True
    (rate,) = result.rates
    assert second.synops == pytest.approx(rate.rate * 3 * 32 * 10)
    assert result.energy.as_built.total_pj > 0 and result.energy.paper is not None
    assert [entry.batch for entry in result.latency] == [1, 64] and result.latency[0].threads == 1
    assert result.sample is not None and len(result.sample.rasters[0].steps) == 3
    assert result.cost.train_s > 0 and result.cost.peak_rss > 50e6
    assert result.task.sizes == {"train": 270, "validation": 30, "test": 100}


def test_same_seed_same_numbers_and_other_seed_others(tmp_path: Path) -> None:
    def metrics(out: Path, seed: int) -> Any:
        outcome = bench.run(suite(seeds=[seed]), out, runner="inline", threads=1, show_progress=False)
        (result,) = outcome.results
        return result.metrics, result.spikes, result.curve, result.sample

    once = metrics(tmp_path / "a", 3)
    assert metrics(tmp_path / "b", 3) == once and metrics(tmp_path / "c", 4) != once


def test_wrong_arguments_of_a_model_are_one_failed_cell(tmp_path: Path) -> None:
    models = [{"name": "spiking_mlp", "label": "good", "args": {"hidden": [8]}},
              {"name": "spiking_mlp", "label": "bad", "args": {"hiden": [8]}}]  # fmt: skip
    outcome = bench.run(suite(models=models), tmp_path, runner="inline", show_progress=False)
    assert outcome.exit_code == 1 and [result.model.label for result in outcome.results] == ["good"]
    (failure,) = outcome.failures
    assert failure.label == "bad" and "hidden" in failure.error and "Traceback" in failure.traceback
    html = bench.report.build(tmp_path).read_text()
    assert "hiden" in html and "1 cell failed" in html


def test_ctrl_c_leaves_a_run_that_goes_on_to_the_same_numbers(tmp_path: Path) -> None:
    long = {"data": {"limit_train": 300, "limit_test": 100}, "train": {"epochs": 20, "lr": 5e-3}}
    document = suite(base=long).model_dump()
    (tmp_path / "suite.yaml").write_text(json.dumps(document))  # JSON is YAML
    code = (
        "import sys; from ranvier import bench\n"
        "sys.exit(bench.run(*sys.argv[1:], threads=1, show_progress=False).exit_code)"
    )
    process = with_trainer().start(code, tmp_path / "suite.yaml", tmp_path / "out")
    (run_id,) = [cell.run_id for cell in bench.expand(suite(base=long))]
    metrics = tmp_path / "out" / "runs" / run_id / "metrics.jsonl"
    for _ in range(2400):
        if metrics.exists() and metrics.read_bytes().count(b'"epoch"') >= 3:
            break
        assert process.poll() is None
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(30) == 130
    assert not list((tmp_path / "out").glob("results/*.json")) and not list((tmp_path / "out").glob("errors/*.json"))
    done = metrics.read_bytes().count(b'"epoch"')
    assert 3 <= done < 20
    resumed = bench.run(suite(base=long), tmp_path / "out", runner="inline", threads=1, show_progress=False)
    whole = bench.run(suite(base=long), tmp_path / "whole", runner="inline", threads=1, show_progress=False)
    assert resumed.results[0].metrics == whole.results[0].metrics
    assert resumed.results[0].curve == whole.results[0].curve


@pytest.mark.parametrize("name", bench.list_suites())
def test_suites_of_the_library_expand(name: str) -> None:
    loaded = bench.load_suite(name)
    cells = bench.expand(loaded)
    assert loaded.name == name and len({cell.run_id for cell in cells}) == len(cells)


def test_quick_compares_four_families_with_two_seeds() -> None:
    loaded = bench.load_suite("quick")
    assert len(loaded.models) >= 4 and len(loaded.seeds) >= 2 and loaded.budget_minutes <= 5


@pytest.mark.parametrize(
    ("name", "metric", "unit"),
    [
        ("tasks-segmentation", "miou", "%"), ("tasks-detection", "map", "%"), ("tasks-text", "bits_per_token", ""),
    ],
)  # fmt: skip
def test_every_task_has_its_figure_ranks_and_page(tmp_path: Path, name: str, metric: str, unit: str) -> None:
    document = bench.load_suite(name).model_dump()
    document["seeds"], document["models"] = [0], document["models"][:2]
    document["base"]["train"]["epochs"] = 1
    data = document["base"]["data"]
    if name == "tasks-text":
        words = "to be or not to be that is the question whether tis nobler in the mind to suffer "
        (tmp_path / "text").mkdir()
        (tmp_path / "text" / "tinyshakespeare.txt").write_text(40 * words)
        data |= {"root": str(tmp_path), "options": {"length": 16}, "limit_train": 60, "limit_test": 12}
    else:
        data["options"] = {"size": 32, "scenes": 24, "test_scenes": 8}
    out = tmp_path / "out"
    outcome = bench.run(parse_suite(document), out, runner="inline", threads=1, show_progress=False)
    assert outcome.failures == [] and bench.validate(out) == []
    (board,) = bench.summarise(outcome.results)
    assert board.metric == metric and board.kind.unit == unit and board.rows[0].rank == 1
    first, second = board.rows
    assert first.mean_merit >= second.mean_merit and board.kind.higher == (metric != "bits_per_token")
    assert first.first.score == first.first.metrics[metric].value
    for result in outcome.results:
        assert result.task.metric == metric and "accuracy" not in result.metrics and not result.accuracy_by_step
        assert result.curve[-1].val_score is not None and result.model.steps >= 1
        sample = result.sample
        assert sample is not None and sample.target is None and sample.rasters
        if metric == "bits_per_token":
            assert sample.text == "to be or not to " and sample.continued and sample.image is None
            assert result.metrics["perplexity"].value == pytest.approx(2**result.score)
        else:
            assert sample.truth is not None and sample.answer is not None
            assert (sample.truth.width, sample.truth.channels) == (32, 3)
    index = bench.report.build(out).read_text()
    assert board.kind.title in index and "Accuracy" not in index
    page = (out / first.page).read_text() if first.page else next((out / "models").glob("*.html")).read_text()
    assert board.kind.label in page and "Further figures" in page
