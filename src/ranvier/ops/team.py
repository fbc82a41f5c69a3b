"""Several GIL-free kernel calls at once, on the threads that torch itself computes with.

Between two parallel regions torch's OpenMP threads spin for some milliseconds before they sleep. A second pool of
threads has to share the cores with them: a fused neuron between two linear layers lost 4 to 7 ms a call that way. So
where torch computes with GNU OpenMP (its wheels for Linux), the calls are handed to that team; elsewhere, and in a
forked process, where that team is gone, to a small pool of Python threads.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

_MAPS = Path("/proc/self/maps")
_OPENMP = ("libgomp", "libomp", "libiomp")
_REGION = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_importer = os.getpid()


def run_together(calls: Sequence[Callable[[], Any]]) -> None:
    """Make all `calls`, on up to `len(calls)` threads; the first exception is raised after all have ended."""
    parallel = _gnu_openmp() if os.getpid() == _importer else None
    if parallel is None:
        pool = _pool(os.getpid(), len(calls) - 1)
        futures = [pool.submit(call) for call in calls[1:]]
        try:
            calls[0]()
        finally:
            raised = [future.exception() for future in futures]
        for error in filter(None, raised):
            raise error
        return
    waiting = list(reversed(calls))
    failures: list[BaseException] = []

    def member(_: int | None) -> None:  # OpenMP may grant fewer threads than asked for: each takes what is left
        while True:
            try:
                call = waiting.pop()
            except IndexError:
                return
            try:
                call()
            except BaseException as error:
                failures.append(error)

    parallel(_REGION(member), None, len(calls), 0)
    if failures:
        raise failures[0]


@lru_cache(maxsize=1)
def _gnu_openmp() -> Callable[..., None] | None:
    """`GOMP_parallel` of the runtime that torch has loaded; `None` if that is not, or not only, GNU OpenMP."""
    torch.get_num_threads()  # torch has read its environment before the team exists
    try:
        lines = _MAPS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    files = {line.split(maxsplit=5)[5] for line in lines if line.count("/")}
    loaded = {file for file in files if Path(file).name.startswith(_OPENMP)}
    home = Path(torch.__file__).resolve().parent
    own = [f for f in loaded if Path(f).name.startswith("libgomp") and home in Path(f).resolve().parents]
    if len(own) != 1 or any(not Path(f).name.startswith("libgomp") for f in loaded):
        return None
    try:
        parallel = ctypes.CDLL(own[0]).GOMP_parallel
    except (OSError, AttributeError):
        return None
    parallel.argtypes = [_REGION, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    parallel.restype = None
    return parallel


@lru_cache(maxsize=4)
def _pool(pid: int, workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers, thread_name_prefix="ranvier-op")
