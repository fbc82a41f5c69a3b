"""Configurations, logs, replays, pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ranvier.errors import ArgumentError, ConfigError, DataError
from ranvier.loop.animate import animate
from ranvier.loop.compare import compare, paired
from ranvier.loop.config import list_scenarios, load_config
from ranvier.loop.record import Log, record, replay


def test_logs_replay_bit_for_bit_and_tampering_shows(tmp_path: Path) -> None:
    config = load_config("navigation", ["worlds=3", "max_ticks=25", "batch=2"])
    report, log = record(config, worlds=2)
    log.save(tmp_path / "log.npz")
    again = Log.load(tmp_path / "log.npz")
    assert again.config == config and again.digest == report.digest
    assert np.array_equal(again.frames["position"], log.frames["position"])
    assert replay(again).identical and replay(again).ticks == 50
    again.hashes[7] = "0" * 64
    assert replay(again).first_difference == 7
    picture = animate(again, tmp_path / "run.gif", 1, every=5, size=120)
    with Image.open(picture) as image:
        assert image.size == (120, 142) and image.n_frames == 5
    with pytest.raises(ArgumentError, match="world"):
        animate(again, tmp_path / "run.gif", 2)
    with pytest.raises(ArgumentError, match="gif"):
        animate(again, tmp_path / "run.mp4")


def test_broken_logs(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"nonsense")
    np.savez(tmp_path / "b.npz", head=np.zeros(3, np.uint8), hashes=np.zeros(3, np.uint8))
    for name in ("a.npz", "b.npz", "none.npz"):
        with pytest.raises(DataError, match=name):
            Log.load(tmp_path / name)


@pytest.mark.parametrize("name", list_scenarios())
def test_scenarios_run(name: str) -> None:
    config = load_config(name, ["worlds=2", "max_ticks=12", "monitor_worlds=2"])
    report, log = record(config, worlds=1)
    assert len(report.episodes) == 2 * config.agents and len(log.hashes) == 12


def test_errors_name_the_nearest() -> None:
    for overrides, message in (
        (["polcy=full"], "policy"), (["predictor=spikng"], "spiking"), (["policy=priorty"], "priority"),
        (["worlds=0"], "worlds"), (["latency.beam=1"], "beam_us"), (["nonsense"], "KEY=VALUE"),
    ):  # fmt: skip
        with pytest.raises((ConfigError, ValueError), match=message):
            load_config("navigation", overrides).build()
    with pytest.raises(ConfigError, match="navigation"):
        load_config("navigaton")
    with pytest.raises(ConfigError, match="near_ghosts"):
        load_config(None, [], {"faults": [{"name": "near_ghost"}]}).build()


def test_comparison_is_paired() -> None:
    configs = [
        (p, load_config("navigation", ["worlds=3", "max_ticks=30", f"policy={p}"])) for p in ("full", "random:3")
    ]
    rows = compare(configs)
    assert rows[0].report.relative("lidar") > rows[1].report.relative("lidar")
    assert paired(rows[0].report, rows[0].report) == (0.0, 0.0)
    with pytest.raises(ArgumentError, match="other worlds"):
        compare([configs[0], ("x", load_config("navigation", ["worlds=4"]))])
