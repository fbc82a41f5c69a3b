"""The Ray runner, where Ray is installed and starts."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ranvier import bench
from ranvier.bench.ray_cluster import claim_path, claimed
from ranvier.bench.suite import expand, parse_suite

# starting Ray takes longer than all other tests of this folder together
needs_ray = pytest.mark.skipif(not os.environ.get("RANVIER_TEST_RAY"), reason="set RANVIER_TEST_RAY=1 to start Ray")


def suite(**changes: Any) -> Any:
    document = {
        "name": "tiny", "version": 1, "title": "Tiny", "budget_minutes": 1,
        "base": {"data": {"limit_train": 300, "limit_test": 100}, "train": {"epochs": 1}},
        "models": [{"name": "spiking_mlp", "label": "good", "args": {"hidden": [8]}}], "data": ["digits"], "seeds": [0],
    }  # fmt: skip
    return parse_suite({**document, **changes})


@pytest.fixture
def cluster() -> Iterator[Any]:
    """Two nodes of one core each, every one with processes of its own."""
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    from ray.cluster_utils import Cluster

    store = 80 * 2**20
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": store})
    made.add_node(num_cpus=1, object_store_memory=store)
    ray.init(address=made.address, log_to_driver=False)
    yield ray
    ray.shutdown()
    made.shutdown()


@needs_ray
@pytest.mark.filterwarnings("ignore")  # what Ray itself does on the way
def test_a_killed_worker_loses_nothing_and_nothing_counts_twice(cluster: Any, tmp_path: Path) -> None:
    epochs = 40
    models = [
        {"name": "spiking_mlp", "label": "good", "args": {"hidden": [8]}, "overrides": {"train.epochs": epochs}},
        {"name": "spiking_mlp", "label": "other", "args": {"hidden": [9]}, "overrides": {"train.epochs": epochs}},
        {"name": "spiking_mlp", "label": "bad", "args": {"hiden": [8]}},
    ]
    asked = suite(models=models)
    [victim, *_] = expand(asked)
    killed: list[int] = []

    def kill() -> None:
        metrics = tmp_path / "ray" / "runs" / victim.run_id / "metrics.jsonl"
        until = time.monotonic() + 200  # a loaded machine takes long to start processes
        while time.monotonic() < until and not killed:
            time.sleep(0.02)
            if metrics.exists() and metrics.read_bytes().count(b'"epoch"') >= 3:
                killed.append(json.loads(claim_path(victim, tmp_path / "ray").read_text())["pid"])
                os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    outcome = bench.run(asked, tmp_path / "ray", runner="ray", threads=1, show_progress=False)
    killer.join()
    assert killed, "the worker was not killed in the middle of its run"
    assert sorted(result.model.label for result in outcome.results) == ["good", "other"]
    assert [f.label for f in outcome.failures] == ["bad"] and "hidden" in outcome.failures[0].error
    assert bench.validate(tmp_path / "ray") == []
    assert len(list((tmp_path / "ray" / "results").glob("*.json"))) == 2
    for result in outcome.results:
        assert [point.epoch for point in result.curve] == list(range(1, epochs + 1))
    calm = bench.run(suite(models=models[:1]), tmp_path / "calm", runner="inline", threads=1, show_progress=False)
    [expected], [found] = calm.results, [r for r in outcome.results if r.model.label == "good"]
    assert found.config_hash == expected.config_hash and found.accuracy_by_step == expected.accuracy_by_step
    assert [p.train_loss for p in found.curve] == [p.train_loss for p in expected.curve]
    again = bench.run(asked, tmp_path / "ray", runner="ray", threads=1, only=["good", "other"], show_progress=False)
    assert (again.skipped, again.ran) == (2, 0)


def test_one_process_at_a_time_holds_a_cell(tmp_path: Path) -> None:
    [cell] = expand(suite())
    order: list[str] = []
    first, second = threading.Event(), threading.Event()

    def other() -> None:
        first.wait(10)
        second.set()
        with claimed(cell, tmp_path):
            order.append("second")

    waiting = threading.Thread(target=other)
    waiting.start()
    with claimed(cell, tmp_path):
        first.set()
        second.wait(10)
        time.sleep(0.1)
        order.append("first")
        assert json.loads(claim_path(cell, tmp_path).read_text())["pid"] == os.getpid()
    waiting.join()
    assert order == ["first", "second"]
