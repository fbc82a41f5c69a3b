"""Events in the order of time, whatever order they arrive in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranvier.errors import ArgumentError
from ranvier.infer.stream.packet import Packet

Columns = tuple[NDArray[np.int64], NDArray[Any], NDArray[Any], NDArray[Any]]


@dataclass
class OrderCounts:
    """What arrived out of order: `late` events that were too late and left out, `forced` ones that were handed on
    early because too many waited, `restarts` of the sender's clock."""

    late: int = 0
    forced: int = 0
    restarts: int = 0


class Orderer:
    """Holds events for `tolerance_us` so that those that arrive late can be put in their place.

    Args:
        tolerance_us: how late an event may be; 0 passes ordered events on at once.
        restart_us: a packet that is later than this means that the sender has started its clock again.
        most: events held at most; of a larger burst the earliest are handed on (`forced`).
    """

    def __init__(self, tolerance_us: int = 0, restart_us: int = 1_000_000, most: int = 1_000_000) -> None:
        for name, value, least in (("tolerance_us", tolerance_us, 0), ("restart_us", restart_us, 1), ("most", most, 1)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ArgumentError(f"{name} must be an integer >= {least}, got {value!r}")
        self.tolerance_us, self.restart_us, self.most = tolerance_us, max(restart_us, tolerance_us), most
        self.counts = OrderCounts()
        self.reset()

    def reset(self) -> None:
        """Forget what is held: a new recording begins."""
        self._held: list[Columns] = []
        self._size = 0
        self._latest = self._passed = -1

    def restarted(self, packet: Packet) -> bool:
        """Whether `packet` lies so far back that it begins a new recording."""
        if packet.t is None or not len(packet.t) or self._latest < 0:
            return False
        far = int(packet.t.max()) < self._latest - self.restart_us
        self.counts.restarts += far
        return far

    def push(self, packet: Packet) -> Columns:
        """The events that can be handed on now, in order."""
        assert packet.t is not None and packet.x is not None and packet.y is not None and packet.p is not None
        new: Columns = (packet.t, packet.x, packet.y, packet.p)
        if len(new[0]) and int(new[0].min()) < self._passed:
            keep = new[0] >= self._passed
            self.counts.late += int((~keep).sum())
            new = (new[0][keep], new[1][keep], new[2][keep], new[3][keep])
        if len(new[0]):
            self._held.append(new)
            self._size += len(new[0])
            self._latest = max(self._latest, int(new[0].max()))
        return self._release(self._latest - self.tolerance_us)

    def advance(self, time_us: int) -> Columns:
        """The sender says that nothing before `time_us` is still to come."""
        self._latest = max(self._latest, time_us)
        return self._release(max(time_us, self._latest - self.tolerance_us))

    def flush(self) -> Columns:
        """All that is held."""
        return self._release(self._latest + 1)

    def _release(self, until: int) -> Columns:
        if not self._held:
            self._passed = max(self._passed, until)
            return _NONE
        one = self._held[0] if len(self._held) == 1 else tuple(map(np.concatenate, zip(*self._held, strict=True)))
        t = one[0]
        if len(t) > 1 and bool((t[1:] < t[:-1]).any()):
            order = np.argsort(t, kind="stable")
            one = tuple(c[order] for c in one)
        cut = int(np.searchsorted(one[0], until, side="right"))
        if len(one[0]) - cut > self.most:
            more = len(one[0]) - self.most
            self.counts.forced += more - cut
            cut = more
        ready = tuple(c[:cut] for c in one)
        rest = tuple(c[cut:] for c in one)
        self._held = [rest] if len(rest[0]) else []  # pyright: ignore[reportAttributeAccessIssue]
        self._size = len(rest[0])
        if cut:
            self._passed = max(self._passed, int(ready[0][-1]))
        return ready  # pyright: ignore[reportReturnType]


_NONE: Columns = (np.zeros(0, np.int64), np.zeros(0, np.uint16), np.zeros(0, np.uint16), np.zeros(0, np.uint8))
