from __future__ import annotations

import multiprocessing
import threading
from functools import partial
from typing import Any

import pytest
import torch

from ranvier.ops import team
from ranvier.ops.parallel import in_slices
from ranvier.ops.team import run_together


@pytest.fixture(params=["OpenMP", "Python threads"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "Python threads":
        monkeypatch.setattr(team, "_gnu_openmp", lambda: None)
    elif team._gnu_openmp() is None:
        pytest.skip("this torch does not compute with GNU OpenMP")


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("size", [2, 3, 7])
def test_every_call_is_made_once(size: int) -> None:
    seen: list[int] = []
    run_together([partial(seen.append, i) for i in range(size)])
    assert sorted(seen) == list(range(size))


@pytest.mark.usefixtures("either_way")
def test_calls_are_made_at_once() -> None:
    meeting = threading.Barrier(2, timeout=30)
    met: list[int] = []

    def call() -> None:
        met.append(meeting.wait())  # ends in an error unless both are there at once

    run_together([call, call])
    assert sorted(met) == [0, 1]


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("bad", [0, 1, 2])
def test_an_error_is_raised_after_all_have_ended(bad: int) -> None:
    seen: list[int] = []

    def call(i: int) -> None:
        if i == bad:
            raise ValueError(f"call {i}")
        seen.append(i)

    with pytest.raises(ValueError, match=f"call {bad}"):
        run_together([partial(call, i) for i in range(3)])
    assert sorted(seen) == [i for i in range(3) if i != bad]


@pytest.mark.usefixtures("either_way")
def test_threads_may_call_at_the_same_time() -> None:
    seen: list[int] = []

    def caller(base: int) -> None:
        for i in range(20):
            run_together([partial(seen.append, base + 2 * i), partial(seen.append, base + 2 * i + 1)])

    threads = [threading.Thread(target=caller, args=(1000 * i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == [1000 * i + j for i in range(3) for j in range(40)]


def _in_child(queue: Any) -> None:
    seen: list[int] = []
    run_together([partial(seen.append, i) for i in range(4)])
    queue.put(sorted(seen))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_does_not_wait_for_threads_that_it_has_not() -> None:
    run_together([lambda: None, lambda: None])  # the parent's team exists
    fork = multiprocessing.get_context("fork")
    queue = fork.Queue()
    child = fork.Process(target=_in_child, args=(queue,))
    child.start()
    try:
        assert queue.get(timeout=60) == [0, 1, 2, 3]
    finally:
        child.join(10)
        child.kill()


def test_slices_cover_the_range() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        seen: list[tuple[int, int]] = []
        in_slices(lambda lo, hi: seen.append((lo, hi)), 100, 1 << 30)
    finally:
        torch.set_num_threads(before)
    assert sorted(seen) == [(0, 33), (33, 66), (66, 100)]
