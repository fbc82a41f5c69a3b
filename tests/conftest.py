"""What every test shares: one thread a process, reproducible seeds, poisoned memory, the folder of real data."""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: the workers of pytest-xdist share the cores
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # a thread that waits must not spin on a core that another needs
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest
import torch
from hypothesis import HealthCheck, settings

if not torch.cuda.is_available():  # before anything imports Triton, whose own functions are decorated by it too
    os.environ["TRITON_INTERPRET"] = "1"

# No deadline: the first call of a kernel compiles it. Derandomised where a red run must be repeatable by anyone.
settings.register_profile(
    "quick", deadline=None, max_examples=30, derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip
settings.register_profile("thorough", parent=settings.get_profile("quick"), max_examples=500, derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


def pytest_configure(config: pytest.Config) -> None:
    torch.set_num_threads(1)
    # A shell starts background jobs with Ctrl-C ignored, and so would be every process that the tests interrupt.
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """What thousands of tests need to exist stays until the end: the garbage collector need not look at it again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def pytest_unconfigure() -> None:
    gc.unfreeze()  # or libraries report what is left at the end as leaks


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="no CUDA device on this machine"))


@pytest.fixture(autouse=True)
def seeded() -> None:
    """The same random numbers for a test whatever ran before it."""
    torch.manual_seed(0)


@pytest.fixture
def ranvier_data() -> Path:
    """The folder of real data sets, named by the environment variable RANVIER_DATA."""
    named = os.environ.get("RANVIER_DATA")
    if not named:
        pytest.skip("RANVIER_DATA is not set; this test reads real data")
    folder = Path(named)
    if not folder.is_dir():
        pytest.fail(f"RANVIER_DATA={named} is not a folder")
    return folder


@pytest.fixture
def poisoned_empty(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Uninitialised memory reads as NaN (integers: their largest value); catches a kernel that forgets to write."""

    def poison(make: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def made(*args: Any, **kwargs: Any) -> torch.Tensor:
            tensor = make(*args, **kwargs)
            if tensor.is_floating_point() or tensor.is_complex():
                return tensor.fill_(float("nan"))
            return tensor.fill_(True if tensor.dtype == torch.bool else torch.iinfo(tensor.dtype).max)

        return made

    for name in ("empty", "empty_like", "empty_strided"):
        monkeypatch.setattr(torch, name, poison(getattr(torch, name)))
    monkeypatch.setattr(torch.Tensor, "new_empty", poison(torch.Tensor.new_empty))
    yield
