"""When commands take effect: cycles that take their time, ticks that do not wait."""

from __future__ import annotations

import torch
from torch import Tensor

from ranvier.errors import ArgumentError


class Cycles:
    """The cycles of many agents at a time, in whole microseconds.

    A command takes effect when its cycle is finished; until then the old one holds. An agent whose cycle is not
    finished at the next tick leaves that tick out ("skip") or starts it late ("queue"): the sensor has looked on time,
    the rest waits its turn. At most `depth` cycles wait; further ticks are left out.
    """

    def __init__(self, rows: int, overrun: str = "skip", depth: int = 8) -> None:
        if overrun not in ("skip", "queue"):
            raise ArgumentError(f"overrun must be 'skip' or 'queue', got {overrun!r}")
        self.overrun, self.depth = overrun, depth
        self.busy_until = torch.zeros(rows, dtype=torch.int64)
        self.skipped = torch.zeros(rows, dtype=torch.int64)
        self.latency = torch.zeros(rows, dtype=torch.int64)
        self._pending: list[tuple[Tensor, Tensor]] = []

    def ready(self, time_us: int, tick_us: int) -> Tensor:
        """Which rows start a cycle at this tick."""
        slack = 0 if self.overrun == "skip" else self.depth * tick_us
        ready = self.busy_until <= time_us + slack
        self.skipped += ~ready
        return ready

    def start(self, time_us: int, ready: Tensor, duration: Tensor, velocity: Tensor) -> None:
        """Book the cycles of this tick: `duration` int64 `[N]` us, then `velocity` `[N, 2]` holds."""
        begin = self.busy_until.clamp_min(time_us)
        done = begin + duration
        self.busy_until = torch.where(ready, done, self.busy_until)
        self.latency = torch.where(ready, done - time_us, self.latency)
        self._pending.append((torch.where(ready, done, -1), velocity))

    def switches(self, time_us: int, tick_us: int) -> list[tuple[Tensor, Tensor]]:
        """What takes effect in the tick that starts at `time_us`, as `LidarNav2D.advance` wants it."""
        due: list[tuple[Tensor, Tensor]] = []
        later: list[tuple[Tensor, Tensor]] = []
        end = time_us + tick_us
        for at, velocity in self._pending:
            now = (at >= 0) & (at < end)
            if bool(now.any()):
                due.append((torch.where(now, (at - time_us).clamp_min(0), -1), velocity))
            rest = torch.where(now, -1, at)
            if bool((rest >= 0).any()):
                later.append((rest, velocity))
        self._pending = later
        return due
