"""One cell in a process of its own: its memory, its threads, and a crash that hurts nobody else."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from ranvier.bench.suite import Cell

GRACE_S = 20.0
"""How long an interrupted cell may take to end by itself."""


def in_process(cell: Cell, out: Path, threads: int, stop: threading.Event) -> None:
    """Run one cell with `python -m ranvier.bench.worker`; raises `CellError` with what it said last."""
    from ranvier.bench.runner import CellError

    log = out / "logs" / f"{cell.run_id}.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = dict(os.environ)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
        environment[name] = str(threads)
    # the order is JSON on stdin, so nothing of a cell is ever part of a command line
    order = json.dumps({"cell": cell.to_json(), "out": str(out.resolve()), "threads": threads})
    with open(log, "w", encoding="utf-8") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "ranvier.bench.worker"],
            stdin=subprocess.PIPE, stdout=said, stderr=subprocess.STDOUT, env=environment, text=True,
            start_new_session=True,  # Ctrl-C reaches it once, from us, and not a second time from the terminal
        )  # fmt: skip
        assert process.stdin is not None
        try:
            with contextlib.suppress(BrokenPipeError):  # it died at once; its exit code says how
                process.stdin.write(order + "\n")
                process.stdin.flush()  # it stays open: its end tells the worker that we are gone
            code = _wait(process, stop)
        finally:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
    if code == 0 or stop.is_set():
        return
    text = log.read_text(encoding="utf-8", errors="replace").strip()
    last = text.splitlines()[-1] if text else ""
    if code < 0:
        name = signal.Signals(-code).name
        raise CellError(f"its process was ended by {name}" + (" (out of memory?)" if name == "SIGKILL" else ""), text)
    raise CellError(last[:500] or f"its process ended with exit code {code}", text[-8000:])


def _wait(process: subprocess.Popen[str], stop: threading.Event) -> int:
    while True:
        try:
            return process.wait(timeout=0.2)
        except subprocess.TimeoutExpired:
            if stop.is_set():
                return _end(process)


def _end(process: subprocess.Popen[str]) -> int:
    process.send_signal(signal.SIGINT)
    try:
        return process.wait(timeout=GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
