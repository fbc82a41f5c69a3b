"""Cells on a Ray cluster: the same cell, placed by Ray on any of its machines, tried again where a machine died.

The machines should share the folder `out`: a cell that is tried again then goes on from its last checkpoint. Where they
do not share it, the result file still comes back, and a cell that is tried again starts over.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ranvier.bench.suite import Cell
from ranvier.extras import require

ATTEMPTS = 3
"""How often a cell is tried when the process or the machine that runs it dies."""

GRACE_S = 20.0
"""How long a stopped cell may take to end by itself."""

_POLL_S = 0.5
_OBJECT_STORE = 80 * 2**20  # orders and results are small


def _remote_cell(document: dict[str, Any], out: str, threads: int) -> dict[str, str | None]:
    """Runs on the worker machine: the traceback when the cell failed, else the text of its result file."""
    import traceback

    from ranvier.bench.cell import execute
    from ranvier.bench.runner import finished, result_path

    cell, folder = Cell.from_json(document), Path(out)
    try:
        with claimed(cell, folder):
            if not finished(cell, folder):  # an attempt that was given up may have ended well after all
                execute(cell, folder, threads)
            return {"trace": None, "result": result_path(cell, folder).read_text(encoding="utf-8")}
    except Exception:
        return {"trace": traceback.format_exc(), "result": None}


def claim_path(cell: Cell, out: Path) -> Path:
    """The file that says which process works on a cell."""
    return out / "locks" / f"{cell.run_id}.json"


@contextlib.contextmanager
def claimed(cell: Cell, out: Path) -> Iterator[None]:
    """Hold the cell while the block runs; waits while another process of the same folder holds it.

    The lock is the operating system's, so it ends with the process that holds it, whatever ends that.
    """
    path = claim_path(cell, out)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # no advisory locks on this system
        yield
        return
    with open(path, "a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        file.truncate()
        json.dump({"pid": os.getpid(), "host": socket.gethostname()}, file)
        file.flush()
        yield


def capacity(threads: int) -> int:
    """How many cells of `threads` threads the cluster holds at a time; connects, or starts Ray here."""
    resources: dict[str, float] = _connected().cluster_resources()
    return max(1, int(resources.get("CPU", 1)) // threads)


def on_ray(cell: Cell, out: Path, threads: int, stop: threading.Event) -> None:
    """Run one cell as a Ray task with `threads` cores; the address comes from `RAY_ADDRESS`, else Ray starts here.

    A cell whose process or machine dies is submitted again, up to `ATTEMPTS` times in all; a cell that fails by itself
    is not. Raises `CellError`.
    """
    from ranvier.bench.runner import CellError

    ray = _connected()
    for attempt in range(1, ATTEMPTS + 1):
        reference = _submit(ray, cell, out, threads)
        if not _ended(ray, reference, stop):
            return
        try:
            answer: dict[str, str | None] = ray.get(reference)
        except ray.exceptions.RayTaskError as error:  # raised outside the cell's own try
            raise CellError(f"Ray could not start the cell: {_first(error)}") from error
        except ray.exceptions.RayError as error:
            if stop.is_set():
                return
            if attempt == ATTEMPTS:
                raise CellError(
                    f"the process or machine that ran it died in each of {ATTEMPTS} attempts (out of memory?); Ray "
                    f"says: {_first(error)}"
                ) from error
            continue
        _settle(cell, out, answer)
        return


def _settle(cell: Cell, out: Path, answer: dict[str, str | None]) -> None:
    """Raise what the cell raised, or make sure that its result lies here."""
    from ranvier.bench.result import write_text
    from ranvier.bench.runner import CellError, finished, result_path

    trace, result = answer["trace"], answer["result"]
    if trace is not None:
        raise CellError(trace.strip().splitlines()[-1][:500], trace)
    if result is not None and not finished(cell, out):  # the machine has a folder of its own
        write_text(result_path(cell, out), result)


def _submit(ray: Any, cell: Cell, out: Path, threads: int) -> Any:
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
    limits = dict.fromkeys(names, str(threads))
    # one call a process, for honest peak memory; tried again by us, who know what a dead process left behind
    task = ray.remote(num_cpus=threads, max_retries=0, max_calls=1, runtime_env={"env_vars": limits})(_remote_cell)
    return task.remote(cell.to_json(), str(out.resolve()), threads)


def _ended(ray: Any, reference: Any, stop: threading.Event) -> bool:
    """Wait for the task; on `stop` ask it to end, then make it. False when it was stopped."""
    while True:
        ready, _ = ray.wait([reference], timeout=_POLL_S)
        if ready:
            return True
        if stop.is_set():
            ray.cancel(reference)  # a KeyboardInterrupt there: the trainer keeps its last checkpoint
            until = time.monotonic() + GRACE_S
            while not ray.wait([reference], timeout=_POLL_S)[0]:
                if time.monotonic() > until:
                    ray.cancel(reference, force=True)
                    break
            return False


def _connected() -> Any:
    ray = require("ray", extra="ray")
    with _starting:
        if not ray.is_initialized():
            if os.environ.get("RAY_ADDRESS"):
                ray.init(log_to_driver=False)
            else:
                # "local": never a cluster that happens to be found on this machine
                ray.init("local", log_to_driver=False, include_dashboard=False, object_store_memory=_OBJECT_STORE)
    return ray


def _first(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]


_starting = threading.Lock()
