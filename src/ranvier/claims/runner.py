"""Run a claim: finished trials are kept, so an interrupted run goes on where it stopped."""

from __future__ import annotations

import math
import multiprocessing
import platform
import random
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

import ranvier
from ranvier.claims.claim import Claim, Outcome, Scale, Trial
from ranvier.claims.record import Machine, TrialRecord, digest, outcome_of, read_trial, write_trial
from ranvier.claims.registry import get_claim, list_claims
from ranvier.claims.result import conclude
from ranvier.claims.table import Table
from ranvier.errors import ArgumentError, DataError, RanvierError, nearest
from ranvier.measure.machine import available_cores, processor


class TrialError(RanvierError):
    """A trial failed, or returned something that is not an outcome."""


@dataclass(frozen=True)
class Todo:
    """A unit of work: one arm and seed, or for a joint claim all arms of a seed (`arm` is then `None`)."""

    arm: str | None
    seed: int

    def __str__(self) -> str:
        return f"{self.arm or 'all arms'}, seed {self.seed}"


Report = Callable[[str], None]


def run(
    claim: str | Claim,
    out: str | Path = "runs/claims",
    *,
    scale: str = "quick",
    seeds: Sequence[int] | None = None,
    workers: int = 1,
    say: Report | None = None,
) -> Any:
    """Run every trial of `claim` that `out` does not hold yet, then decide its rules and store the result.

    Args:
        claim: a name from `list_claims`, or a `Claim` of one's own.
        out: trials go to `out/NAME/SCALE/trials`, the result to `out/NAME/SCALE/result.json`.
        scale: `quick`, or another of the claim's scales.
        seeds: instead of the scale's own; the result says which were run.
        workers: trials at a time, each in a process of its own; needs a claim with a name in the registry.
        say: called with a line when a trial starts or ends.

    Returns:
        The `ClaimResult` that was stored.

    Raises `UnknownNameError` for a claim or scale that does not exist, `TrialError` when a trial fails (the finished
    ones are kept).
    """
    subject = get_claim(claim) if isinstance(claim, str) else claim
    plan = _scale(subject, scale)
    wanted = tuple(seeds) if seeds is not None else plan.seeds
    if not wanted or len(set(wanted)) != len(wanted):
        raise ArgumentError(f"seeds: expected distinct numbers, at least one, got {list(wanted)}")
    if workers < 1:
        raise ArgumentError(f"workers: expected at least 1, got {workers}")
    folder = Path(out) / subject.name / scale
    todo = [item for item in _work(subject, wanted) if not _finished(subject, item, scale, folder)]
    tell = say or (lambda line: None)
    total = len(_work(subject, wanted))
    tell(f"{subject.name} ({scale}): {total - len(todo)} of {total} trials are there, {len(todo)} to run")
    if todo:
        _run_all(subject, todo, scale, folder, workers, tell)
    return conclude(subject, scale, _records(subject, wanted, scale, folder), folder, wanted == plan.seeds)


def load_table(claim: Claim, scale: str, out: str | Path, seeds: Sequence[int] | None = None) -> Table:
    """The stored trials of a claim; raises `DataError` when none is there."""
    folder = Path(out) / claim.name / scale
    records = _records(claim, tuple(seeds or _scale(claim, scale).seeds), scale, folder)
    return Table(claim, {(record.arm, record.seed): outcome_of(record) for record in records})


def _scale(claim: Claim, name: str) -> Scale:
    if name not in claim.scales:
        raise ArgumentError(f"scale: claim {claim.name!r} has no scale {name!r}{nearest(name, claim.scales)}")
    return claim.scales[name]


def _work(claim: Claim, seeds: Sequence[int]) -> list[Todo]:
    if claim.joint:
        return [Todo(None, seed) for seed in seeds]
    return [Todo(arm.name, seed) for seed in seeds for arm in claim.arms]


def _path(folder: Path, arm: str, seed: int) -> Path:
    return folder / "trials" / f"{arm}-{seed}.json"


def _stored(claim: Claim, arm: str, seed: int, scale: str, folder: Path) -> TrialRecord | None:
    path = _path(folder, arm, seed)
    if not path.exists():
        return None
    try:
        record = read_trial(path)
    except DataError:
        return None  # a damaged file counts as none: the trial is run again
    return record if record.digest == digest(claim, claim.arm(arm), seed, scale) else None


def _finished(claim: Claim, item: Todo, scale: str, folder: Path) -> bool:
    arms = [item.arm] if item.arm else [arm.name for arm in claim.arms]
    return all(_stored(claim, arm, item.seed, scale, folder) is not None for arm in arms)


def _records(claim: Claim, seeds: Sequence[int], scale: str, folder: Path) -> list[TrialRecord]:
    found = [_stored(claim, arm.name, seed, scale, folder) for seed in seeds for arm in claim.arms]
    records = [record for record in found if record is not None]
    if not records:
        raise DataError(f"{folder}: no finished trial of claim {claim.name!r}; run it first")
    return records


def _run_all(claim: Claim, todo: Sequence[Todo], scale: str, folder: Path, workers: int, tell: Report) -> None:
    if workers == 1:
        for index, item in enumerate(todo, 1):
            tell(f"[{index}/{len(todo)}] {item} ...")
            for record in _run_one(claim, item, scale, available_cores()):
                _store(folder, record, tell)
        return
    if claim.name not in list_claims() or get_claim(claim.name) is not claim:
        raise ArgumentError(f"workers: claim {claim.name!r} is not in the registry, so it runs with workers=1 only")
    threads = max(1, available_cores() // workers)
    context = multiprocessing.get_context("spawn")  # a fork would inherit locked thread pools
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        jobs = {pool.submit(_in_process, claim.name, item, scale, threads): item for item in todo}
        try:
            for job in as_completed(jobs):
                for record in job.result():
                    _store(folder, record, tell)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _in_process(name: str, item: Todo, scale: str, threads: int) -> list[TrialRecord]:
    return _run_one(get_claim(name), item, scale, threads)


def _store(folder: Path, record: TrialRecord, tell: Report) -> None:
    write_trial(_path(folder, record.arm, record.seed), record)
    figures = ", ".join(f"{name} {value:.4g}" for name, value in list(record.metrics.items())[:6])
    tell(f"{record.arm}, seed {record.seed}: {figures} ({record.wall_s:.1f} s)")


def _run_one(claim: Claim, item: Todo, scale: str, threads: int) -> list[TrialRecord]:
    """Run one trial with every random generator seeded; threads are set back afterwards."""
    arm = claim.arm(item.arm) if item.arm else None
    trial = Trial(claim.name, arm, claim.arms, item.seed, scale, dict(claim.scales[scale].settings), threads)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    torch.manual_seed(item.seed)
    np.random.seed(item.seed % 2**32)
    random.seed(item.seed)
    started = time.perf_counter()
    try:
        outcome = claim.run(trial)
    except RanvierError as error:
        raise TrialError(f"claim {claim.name!r}, {item}: {error}") from error
    finally:
        torch.set_num_threads(before)
    wall = time.perf_counter() - started
    outcomes = _by_arm(claim, item, outcome)
    return [
        TrialRecord(
            claim=claim.name, digest=digest(claim, claim.arm(name), item.seed, scale), arm=name, seed=item.seed,
            scale=scale, created=datetime.now(UTC).isoformat(timespec="seconds"), wall_s=wall / len(outcomes),
            machine=_machine(threads), metrics={key: float(value) for key, value in found.metrics.items()},
            curves={key: [(float(x), float(y)) for x, y in points] for key, points in found.curves.items()},
            notes=[str(note) for note in found.notes],
        )
        for name, found in outcomes.items()
    ]  # fmt: skip


def _by_arm(claim: Claim, item: Todo, outcome: Outcome | Mapping[str, Outcome]) -> dict[str, Outcome]:
    if isinstance(outcome, Outcome):
        found = {item.arm or "": outcome}
    else:
        found = dict(outcome)
    expected = {item.arm} if item.arm else {arm.name for arm in claim.arms}
    if set(found) != expected:
        raise TrialError(
            f"claim {claim.name!r}, {item}: expected outcomes of {sorted(map(str, expected))}, got {sorted(found)}"
        )
    metrics = {metric.name for metric in claim.metrics}
    for name, entry in found.items():
        if set(entry.metrics) != metrics:
            raise TrialError(
                f"claim {claim.name!r}, {name}: expected the metrics {sorted(metrics)}, got {sorted(entry.metrics)}"
            )
        for key, value in entry.metrics.items():
            if not math.isfinite(float(value)):
                raise TrialError(f"claim {claim.name!r}, {name}, seed {item.seed}: {key} is {value}")
    return found


def _machine(threads: int) -> Machine:
    return Machine(
        ranvier=ranvier.__version__, torch=torch.__version__, python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}", processor=processor(), cores=available_cores(),
        threads=threads,
    )  # fmt: skip
