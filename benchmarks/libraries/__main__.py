"""`python -m benchmarks libraries`: the grid, its gate, its JSON, its page.

Every level runs in two processes: one for times (contenders in turn, medians, CPU time on one thread), one for peak
memory, in which freed memory goes back to the system at once. Cells with more element-steps than `--most` are left out,
and so is, in larger cells, a contender that took longer than `--patience` for a step; both are said in the result.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.libraries.contenders import PEERS, TWINS
from benchmarks.libraries.gate import disagreement
from benchmarks.libraries.page import write_page
from benchmarks.libraries.problems import PROBLEMS, data, make
from benchmarks.timing import store

STEPS, BATCHES = (4, 16, 64, 256, 1000), (1, 16, 128)
QUICK_STEPS, QUICK_BATCHES = (4, 16), (1, 16)
Row = dict[str, Any]


def _contenders(level: str) -> tuple[dict[str, Callable[[], nn.Module]], Row]:
    """The factories of all neurons that passed the gate, and why the others did not."""
    passed: dict[str, Callable[[], nn.Module]] = {f"ranvier ({name})": twin for name, twin in TWINS.items()}
    failed: Row = {}
    for peer in PEERS:
        reason = disagreement(PROBLEMS[level], 64, peer.neuron, TWINS[peer.twin])
        if reason is None:
            passed[peer.title] = peer.neuron
        else:
            failed[peer.title] = reason
            print(f"{level}: {peer.title} is left out: {reason}", file=sys.stderr, flush=True)
    return passed, failed


def _training_step(net: nn.Module, level: str, steps: int, batch: int) -> Callable[[], None]:
    x, upstream = data(PROBLEMS[level], steps, batch)
    x.requires_grad_()
    with torch.no_grad():
        g = upstream(net(x))

    def once() -> None:
        net(x).backward(g)
        x.grad = None
        for p in net.parameters():
            p.grad = None

    return once


def _times(runs: dict[str, Callable[[], None]], rounds: int) -> tuple[dict[str, float], dict[str, float], int]:
    """Median and first CPU seconds of each, in turn; fewer rounds where they take long, at least three."""
    first: dict[str, float] = {}
    for name, run in runs.items():
        start = time.process_time()
        run()
        first[name] = time.process_time() - start
    rounds = max(3, min(rounds, int(20 / max(sum(first.values()), 1e-9))))
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.process_time()
            run()
            taken[name].append(time.process_time() - start)
    return {name: statistics.median(t) for name, t in taken.items()}, first, rounds


def _settle() -> None:
    from ranvier.ops.memory import POOL

    gc.collect()
    POOL.clear()


def _status(key: str) -> int:
    line = next(s for s in Path("/proc/self/status").read_text().splitlines() if s.startswith(key))
    return int(line.split()[1]) * 1024


def _peak(run: Callable[[], None]) -> int:
    _settle()
    Path("/proc/self/clear_refs").write_text("5")  # start the peak anew
    before = _status("VmRSS")
    run()
    return _status("VmHWM") - before


def measure(level: str, args: argparse.Namespace) -> Row:
    """All cells of a level, in this process."""
    torch.set_num_threads(1)
    neurons, failed = _contenders(level)
    cells: list[Row] = []
    slow: set[str] = set()
    grid = sorted(itertools.product(args.steps, args.batches), key=lambda cell: cell[0] * cell[1])
    for steps, batch in grid:
        elements = steps * batch * PROBLEMS[level].neurons
        cell: Row = {"level": level, "T": steps, "batch": batch, "element_steps": elements}
        cells.append(cell)
        if elements > args.most:
            cell["left_out"] = f"more than {args.most} element-steps"
            continue
        runs = {
            name: _training_step(make(PROBLEMS[level], neuron), level, steps, batch)
            for name, neuron in neurons.items()
            if name not in slow
        }
        if args.memory:
            for run in runs.values():
                run()
            cell["peak_bytes"] = {name: min(_peak(run) for _ in range(2)) for name, run in runs.items()}
        else:
            times, first, cell["rounds"] = _times(runs, args.rounds)
            cell |= {"seconds": times, "first_seconds": first, "too_slow": sorted(slow)}
            slow |= {name for name, t in times.items() if t > args.patience and not name.startswith("ranvier")}
            print(_line(cell), file=sys.stderr, flush=True)
    return {"cells": cells, "failed": failed}


def ratios(cell: Row) -> dict[str, float]:
    """How many times as long each peer takes as its twin."""
    times = cell.get("seconds", {})
    return {
        peer.title: times[peer.title] / times[f"ranvier ({peer.twin})"] for peer in PEERS if peer.title in times
    }  # fmt: skip


def _line(cell: Row) -> str:
    ours = cell["seconds"]["ranvier (x/tau, atan, detached)"]
    others = " | ".join(f"{name} {ratio:7.2f}x" for name, ratio in ratios(cell).items())
    return f"{cell['level']:7} T={cell['T']:<5} B={cell['batch']:<4} ranvier {ours * 1e3:9.2f} ms | {others}"


def _in_a_process(level: str, args: argparse.Namespace, memory: bool) -> Row:
    command = [sys.executable, "-m", "benchmarks.libraries", "--level", level, "--rounds", str(args.rounds)]
    command += ["--most", str(args.most), "--patience", str(args.patience), *(["--memory"] if memory else [])]
    command += ["--steps", *map(str, args.steps), "--batches", *map(str, args.batches)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if memory:
        environment |= {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"the level {level} failed")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small grid, for a look; stored apart")
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--most", type=int, default=1 << 24, help="element-steps of the largest cell")
    parser.add_argument("--patience", type=float, default=20.0, help="seconds a step; who takes longer stops there")
    parser.add_argument("--steps", type=int, nargs="+", help="values of T")
    parser.add_argument("--batches", type=int, nargs="+", help="batch sizes")
    parser.add_argument("--level", choices=PROBLEMS, help=argparse.SUPPRESS)
    parser.add_argument("--memory", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.steps = args.steps or (QUICK_STEPS if args.quick else STEPS)
    args.batches = args.batches or (QUICK_BATCHES if args.quick else BATCHES)
    if args.level:
        print(json.dumps(measure(args.level, args)))
        return
    cells: list[Row] = []
    failed: Row = {}
    for level in PROBLEMS:
        timed, memory = (_in_a_process(level, args, m) for m in (False, True))
        for cell, other in zip(timed["cells"], memory["cells"], strict=True):
            cells.append({**cell, **{k: v for k, v in other.items() if k == "peak_bytes"}, "ratios": ratios(cell)})
        failed |= {f"{level}: {name}": reason for name, reason in timed["failed"].items()}
    for cell in cells:
        for name, ratio in cell["ratios"].items():
            if ratio < 1:
                print(f"LOST: {cell['level']} T={cell['T']} B={cell['batch']}: {name} takes {ratio:.2f} of our time")
    name = "libraries-quick" if args.quick else "libraries"
    path = store(name, " ".join(("python -m benchmarks libraries", *sys.argv[1:])), {"cells": cells, "failed": failed})
    print(f"stored in benchmarks/results/{path.name}")
    if not args.quick:
        write_page(path)


if __name__ == "__main__":
    main()
