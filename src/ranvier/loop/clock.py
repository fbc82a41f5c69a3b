"""Simulated time: an integer-microsecond clock, an event queue, and stages that take time and energy."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from ranvier.errors import ArgumentError


class Clock:
    """Simulated time in whole microseconds; it only moves forward."""

    def __init__(self, now_us: int = 0) -> None:
        self._now = whole("now_us", now_us)

    @property
    def now_us(self) -> int:
        """The present, in microseconds."""
        return self._now

    def advance_to(self, time_us: int) -> None:
        """Move to `time_us`; `ArgumentError` for the past or a time that is not whole."""
        if whole("time_us", time_us) < self._now:
            raise ArgumentError(f"time_us must not lie before now ({self._now} us), got {time_us}")
        self._now = time_us


@dataclass(order=True)
class _Entry:
    time_us: int
    priority: int
    sequence: int
    callback: Callable[[], Any] = field(compare=False)


class EventQueue:
    """Callbacks in simulated time, in the order (time, priority, order of insertion): the same in every run."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self._entries: list[_Entry] = []
        self._count = 0

    def push(self, time_us: int, callback: Callable[[], Any], priority: int = 0) -> None:
        """Call `callback` at `time_us`; of two at one time the lower `priority` comes first."""
        if whole("time_us", time_us) < self.clock.now_us:
            raise ArgumentError(f"time_us must not lie before now ({self.clock.now_us} us), got {time_us}")
        heapq.heappush(self._entries, _Entry(time_us, priority, self._count, callback))
        self._count += 1

    def run_until(self, time_us: int) -> int:
        """Run everything due up to and including `time_us`, then stand there; returns how many callbacks ran."""
        ran = 0
        while self._entries and self._entries[0].time_us <= time_us:
            entry = heapq.heappop(self._entries)
            self.clock.advance_to(entry.time_us)
            entry.callback()
            ran += 1
        self.clock.advance_to(time_us)
        return ran

    def __len__(self) -> int:
        return len(self._entries)


@dataclass(frozen=True)
class Outcome:
    """What a process gives back: its result, how long it took and what it cost."""

    result: Any
    duration_us: int = 0
    energy_nj: int = 0


class Process(Protocol):
    """A stage in simulated time: sensor, network, link or actuator."""

    def __call__(self, *args: Any, **kwargs: Any) -> Outcome: ...


def pipeline(queue: EventQueue, start_us: int, stages: list[Process], argument: Any,
             done: Callable[[Any, int, int], Any]) -> None:  # fmt: skip
    """Run `stages` one after the other in simulated time from `start_us`.

    Every stage gets the result of the one before, when that one has finished. At the end `done(result, duration_us,
    energy_nj)` is called; the duration is the sum of the stages'.
    """

    def advance(index: int, value: Any, spent: int, energy: int) -> None:
        if index == len(stages):
            done(value, spent, energy)
            return
        outcome = stages[index](value)
        spent += whole("duration_us", outcome.duration_us)
        queue.push(start_us + spent, lambda: advance(index + 1, outcome.result, spent, energy + outcome.energy_nj))

    queue.push(start_us, lambda: advance(0, argument, 0, 0))


class PeriodicTask:
    """A pipeline that is started every `period_us` and may be late.

    Args:
        overrun: "skip" leaves out the ticks that come while a cycle is still running; "queue" starts them afterwards,
            in order.
    """

    def __init__(self, queue: EventQueue, period_us: int, stages: list[Process],
                 done: Callable[[Any, int, int], Any], overrun: str = "skip") -> None:  # fmt: skip
        if overrun not in ("skip", "queue"):
            raise ArgumentError(f"overrun must be 'skip' or 'queue', got {overrun!r}")
        if whole("period_us", period_us) < 1:
            raise ArgumentError(f"period_us must be positive, got {period_us}")
        self.queue, self.period_us, self.stages, self.done, self.overrun = queue, period_us, stages, done, overrun
        self.skipped = 0
        self._busy = False
        self._waiting: list[Any] = []

    def start(self, argument: Callable[[int], Any], ticks: int) -> None:
        """Schedule `ticks` ticks; each starts with `argument(time_us)`."""
        for index in range(ticks):
            at = self.queue.clock.now_us + index * self.period_us
            self.queue.push(at, lambda at=at: self._tick(argument(at)), priority=1)

    def _tick(self, argument: Any) -> None:
        if not self._busy:
            self._begin(argument)
        elif self.overrun == "queue":
            self._waiting.append(argument)
        else:
            self.skipped += 1

    def _begin(self, argument: Any) -> None:
        self._busy = True
        pipeline(self.queue, self.queue.clock.now_us, self.stages, argument, self._finish)

    def _finish(self, result: Any, duration_us: int, energy_nj: int) -> None:
        self._busy = False
        self.done(result, duration_us, energy_nj)
        if self._waiting:
            self._begin(self._waiting.pop(0))


def whole(name: str, value: int) -> int:
    """`value` as it is when it is a non-negative integer, else an `ArgumentError`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ArgumentError(f"{name} must be a whole, non-negative number, got {value!r}")
    return value
