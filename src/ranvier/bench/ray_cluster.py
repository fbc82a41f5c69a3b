"""Cells on a Ray cluster: the same worker, placed by Ray. The folder `out` must be shared by its machines."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from ranvier.bench.suite import Cell
from ranvier.extras import require

_POLL_S = 0.5


def _remote_cell(document: dict[str, Any], out: str, threads: int) -> str | None:
    """Runs on the worker machine: the traceback when the cell failed, else `None`."""
    import traceback

    from ranvier.bench.cell import execute

    try:
        execute(Cell.from_json(document), Path(out), threads)
    except Exception:
        return traceback.format_exc()
    return None


def on_ray(cell: Cell, out: Path, threads: int, stop: threading.Event) -> None:
    """Run one cell as a Ray task with `threads` cores; the address comes from `RAY_ADDRESS`, else Ray starts here."""
    from ranvier.bench.runner import CellError

    ray = require("ray", extra="ray")
    with _starting:
        if not ray.is_initialized():
            ray.init(log_to_driver=False, include_dashboard=False)
    # no retries: a cell that kills its process would do it again; and one call a process, for honest peak memory
    task = ray.remote(num_cpus=threads, max_retries=0, max_calls=1)(_remote_cell)
    reference = task.remote(cell.to_json(), str(out.resolve()), threads)
    while True:
        ready, _ = ray.wait([reference], timeout=_POLL_S)
        if stop.is_set():
            ray.cancel(reference)
            return
        if ready:
            break
    try:
        trace: str | None = ray.get(reference)
    except ray.exceptions.RayError as error:
        raise CellError(f"Ray could not finish the cell: {' '.join(str(error).split())[:300]}") from error
    if trace is not None:
        raise CellError(trace.strip().splitlines()[-1][:500], trace)


_starting = threading.Lock()
