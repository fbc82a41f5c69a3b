"""Kill runs at random moments and see that nothing is lost: `python scripts/kill_trials.py --trials 50 --json OUT`.

Each trial starts `ranvier train`, `bench` or `claims run` as a process group of its own, ends it with SIGKILL after a
random part of the processor time that an unbroken run takes (some trials twice), looks at what lies there, and starts
the same command again to its end. Expected: every file on disk is whole, every finished cell or trial stays as it is
to the byte, and the end equals that of the unbroken run (weights and journal to the bit; metrics of cells and trials).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

SUITE = """\
name: kills
version: 1
title: Two small nets
description: Two cells that end within seconds.
budget_minutes: 1
threads: 1
base:
  data: {batch_size: 256, validation: 0.1}
  train: {epochs: 2, optimizer: adamw, lr: 2.0e-3}
models:
  - {name: spiking_mlp, label: "Small", args: {T: 2, hidden: [16]}}
  - {name: spiking_mlp, label: "Large", args: {T: 2, hidden: [32]}}
data: [digits]
seeds: [0]
"""


@dataclass(frozen=True)
class Job:
    """A command that may be killed, and what of its folder has to be equal in the end."""

    name: str
    command: Callable[[Path], list[str]]
    essence: Callable[[Path], dict[str, Any]]
    finished: Callable[[Path], dict[str, bytes]]


def _ranvier(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "ranvier", *arguments]


def _train(folder: Path) -> list[str]:
    return _ranvier("train", "digits_mlp", "train.epochs=3", "train.checkpoint_steps=4", "--out", str(folder / "run"))


def _train_essence(folder: Path) -> dict[str, Any]:
    run = folder / "run"
    return {name: (run / name).read_bytes().hex() for name in ("model.safetensors", "metrics.jsonl")}


def _bench(folder: Path) -> list[str]:
    suite = folder / "kills.yaml"
    suite.write_text(SUITE, encoding="utf-8")
    return _ranvier("bench", str(suite), "--out", str(folder / "bench"))


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _cells(folder: Path) -> list[Path]:
    return sorted(p for p in (folder / "bench").rglob("*.json") if '"metrics"' in p.read_text(encoding="utf-8"))


def _bench_essence(folder: Path) -> dict[str, Any]:
    return {p.name: {key: _json(p).get(key) for key in ("model", "task", "seed", "metrics")} for p in _cells(folder)}


def _claims(folder: Path) -> list[str]:
    return _ranvier("claims", "run", "gain_control_whitening", "--scale", "tiny", "--out", str(folder / "claims"))


def _trials(folder: Path) -> list[Path]:
    return sorted(p for p in (folder / "claims").rglob("*.json") if p.name not in ("result.json",))


def _claims_essence(folder: Path) -> dict[str, Any]:
    return {p.name: _json(p).get("metrics") for p in _trials(folder)}


def _bytes(paths: list[Path]) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in paths}


JOBS = (
    Job("train", _train, _train_essence, lambda folder: {}),
    Job("bench", _bench, _bench_essence, lambda folder: _bytes(_cells(folder))),
    Job("claims", _claims, _claims_essence, lambda folder: _bytes(_trials(folder))),
)


def processor_seconds(group: int) -> float:
    """Processor time of a process group, with the children that have ended."""
    ticks = 0
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        if int(fields[2]) == group:
            ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def run(command: list[str], kill_after: float | None = None) -> tuple[int, float]:
    """Exit code and seconds of processor time; killed, with its children, once it has used `kill_after` of them."""
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    if kill_after is not None:
        while process.poll() is None:
            if processor_seconds(process.pid) >= kill_after:
                os.killpg(process.pid, signal.SIGKILL)
            time.sleep(0.1)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process.wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return process.returncode, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def broken_files(folder: Path) -> list[str]:
    """Files under their final name that are not whole."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    found: list[str] = []
    for path in folder.rglob("*"):
        if not path.is_file() or path.suffix not in (".json", ".safetensors") or ".tmp" in path.name:
            continue
        if any(part.endswith(".tmp") or part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        try:
            load_file(path) if path.suffix == ".safetensors" else _json(path)
        except (ValueError, OSError, SafetensorError) as error:
            found.append(f"{path.relative_to(folder)}: {error}")
    return found


def trial(job: Job, whole: dict[str, Any], seconds: float, draw: random.Random, folder: Path) -> tuple[list[str], int]:
    """What went wrong in one trial, empty if nothing, and how many times a run was killed before its end."""
    wrong: list[str] = []
    kills = 0
    for _ in range(draw.choice((1, 1, 2))):
        code, _ = run(job.command(folder), draw.uniform(0.1, 1.0) * seconds)
        kills += code == -signal.SIGKILL
        if code not in (0, -signal.SIGKILL):
            wrong.append(f"ended with exit code {code} before it was killed")
        wrong += broken_files(folder)
    kept = job.finished(folder)
    code, _ = run(job.command(folder))
    if code != 0:
        wrong.append(f"did not continue: exit code {code}")
        return wrong, kills
    after = job.finished(folder)
    wrong += [f"{path} was made again or changed" for path, content in kept.items() if after.get(path) != content]
    wrong += broken_files(folder)
    if job.essence(folder) != whole:
        wrong.append("ends otherwise than the unbroken run")
    wrong += [f"left behind: {p.relative_to(folder)}" for p in folder.rglob("*.tmp")]
    return wrong, kills


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=50, help="in all, spread over the jobs in turn")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", nargs="+", choices=[job.name for job in JOBS], default=[job.name for job in JOBS])
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(argv)
    jobs = [job for job in JOBS if job.name in given.jobs]
    report: dict[str, Any] = {job.name: {"trials": 0, "kills": 0, "failed": []} for job in jobs}
    references: dict[str, tuple[dict[str, Any], float]] = {}
    with tempfile.TemporaryDirectory() as name:
        for job in jobs:
            folder = Path(name) / job.name
            folder.mkdir()
            code, seconds = run(job.command(folder))
            if code != 0:
                print(f"{job.name}: the unbroken run ended with exit code {code}", file=sys.stderr)
                return 1
            references[job.name] = (job.essence(folder), seconds)
            report[job.name]["unbroken_s"] = round(seconds, 1)
            print(f"{job.name}: unbroken in {seconds:.1f} s of processor time", flush=True)
        for number in range(given.trials):
            job = jobs[number % len(jobs)]
            folder = Path(name) / f"{job.name}-{number}"
            folder.mkdir()
            wrong, kills = trial(job, *references[job.name], random.Random(given.seed * 100_003 + number), folder)
            report[job.name]["trials"] += 1
            report[job.name]["kills"] += kills
            if wrong:
                report[job.name]["failed"].append({"trial": number, "wrong": wrong})
            print(f"{number + 1}/{given.trials} {job.name}: {'; '.join(wrong) or 'nothing lost'}", flush=True)
    if given.json:
        from ranvier.bench.machine import environment

        report["date"] = f"{datetime.now(UTC):%Y-%m-%d}"
        report["machine"] = environment(threads=1).model_dump(mode="json")
        given.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 1 if any(report[job.name]["failed"] for job in jobs) else 0


if __name__ == "__main__":
    sys.exit(main())
