"""The queue between whoever sends and the net: bounded, with a policy for what does not fit."""

from __future__ import annotations

import threading
from collections import deque
from typing import Literal

from ranvier.errors import ArgumentError
from ranvier.infer.stream.packet import Packet

Policy = Literal["block", "drop-oldest"]


class PacketQueue:
    """Packets that wait, at most `capacity` events (samples of audio count as events; every packet as one more).

    Args:
        capacity: see above; a single larger packet is let in when nothing else waits.
        policy: "block" makes the sender wait (TCP and Unix sockets pass that on to the other side); "drop-oldest" makes
            room by dropping packets of events from the front, and counts them. An end of a recording is not dropped.

    Attributes:
        dropped_events, dropped_packets: what was dropped; highest: the largest number of events that waited.
    """

    def __init__(self, capacity: int = 1_000_000, policy: Policy = "block") -> None:
        if isinstance(capacity, bool) or not isinstance(capacity, int) or capacity < 1:
            raise ArgumentError(f"capacity must be an integer >= 1, got {capacity!r}")
        if policy not in ("block", "drop-oldest"):
            raise ArgumentError(f"policy must be 'block' or 'drop-oldest', got {policy!r}")
        self.capacity, self.policy = capacity, policy
        self.dropped_events = self.dropped_packets = self.highest = 0
        self._packets: deque[Packet] = deque()
        self._waiting = 0
        self._closed = False
        self._changed = threading.Condition()

    def put(self, packet: Packet) -> bool:
        """Queue a packet; False when the queue has been closed."""
        weight = len(packet) + 1
        with self._changed:
            if self.policy == "drop-oldest":
                self._make_room(weight)
            while self._packets and self._waiting + weight > self.capacity and not self._closed:
                if self.policy == "drop-oldest":
                    break  # only ends of recordings are left
                self._changed.wait()
            if self._closed:
                return False
            self._packets.append(packet)
            self._waiting += weight
            self.highest = max(self.highest, self._waiting - len(self._packets))
            self._changed.notify_all()
            return True

    def _make_room(self, weight: int) -> None:
        kept: list[Packet] = []
        while self._packets and self._waiting + weight > self.capacity:
            oldest = self._packets.popleft()
            if len(oldest):
                self.dropped_events += len(oldest)
                self.dropped_packets += 1
                self._waiting -= len(oldest) + 1
            else:
                kept.append(oldest)
        self._packets.extendleft(reversed(kept))

    def get(self, timeout: float | None = None) -> Packet | None:
        """The next packet; None when none came in `timeout` seconds or the queue is closed and empty."""
        with self._changed:
            if not self._packets and not self._closed:
                self._changed.wait(timeout)
            if not self._packets:
                return None
            packet = self._packets.popleft()
            self._waiting -= len(packet) + 1
            self._changed.notify_all()
            return packet

    def close(self) -> None:
        """Nothing more comes; what waits can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def done(self) -> bool:
        """Whether it is closed and empty."""
        with self._changed:
            return self._closed and not self._packets
