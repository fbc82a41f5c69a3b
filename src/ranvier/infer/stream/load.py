"""A test of what a net holds: events at a stated rate through a socket of this machine."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from ranvier.data import Events
from ranvier.errors import ArgumentError
from ranvier.infer.stream.feed import live
from ranvier.infer.stream.packet import of_events
from ranvier.infer.stream.run import StreamRunner
from ranvier.infer.stream.send import Sender
from ranvier.infer.stream.sources import listen
from ranvier.infer.stream.waiting import PacketQueue


@dataclass(frozen=True)
class LoadReport:
    """What was sent and what became of it.

    Attributes:
        asked, sent_rate: events a second, as asked for and as the sender kept them up.
        sent, received, in_frames: events; dropped: in the queue; lost_packets: on the way; seconds: of sending.
        behind: seconds from the last packet sent to the last one worked off.
        summary: of the runner.
    """

    asked: float
    sent_rate: float
    sent: int
    received: int
    in_frames: int
    dropped: int
    lost_packets: int
    seconds: float
    behind: float
    summary: dict[str, Any]

    @property
    def held(self) -> bool:
        """Whether the rate was kept up, nothing was lost, and the net had caught up within a second."""
        kept = self.sent_rate >= 0.95 * self.asked and self.behind <= 1.0
        return kept and self.in_frames == self.sent and not self.dropped and not self.lost_packets


def load_test(
    runner: StreamRunner, rate: float, seconds: float = 3.0, *, address: str = "tcp://127.0.0.1:0",
    queue: PacketQueue | None = None, packet_us: int = 1000, seed: int = 0,
) -> LoadReport:  # fmt: skip
    """Send random events at `rate` events a second for `seconds`, in packets of `packet_us`, and run them.

    What the sender cannot keep up is said in `sent_rate`, what the queue drops in `dropped`, what the way loses (UDP)
    in `lost_packets`; none of it goes missing.
    """
    if not 0 < rate < 1e9 or not 0 < seconds < 3600:
        raise ArgumentError(f"rate and seconds must be positive, got {rate!r} and {seconds!r}")
    waiting = PacketQueue() if queue is None else queue
    each = max(1, round(rate * packet_us * 1e-6))
    height, width = runner.framer.sensor
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, width, each * 8), rng.integers(0, height, each * 8)
    p = rng.integers(0, 2, each * 8)
    span = np.arange(each, dtype=np.int64) * packet_us // each
    total = max(1, round(seconds * 1e6 / packet_us))
    facts: dict[str, float] = {}
    listener = listen(address)

    def send() -> None:
        with Sender(listener.address) as sender:
            begun = time.perf_counter()
            for n in range(total):
                ahead = begun + n * packet_us * 1e-6 - time.perf_counter()
                if ahead > 0:
                    time.sleep(ahead)
                at = slice((n % 8) * each, (n % 8 + 1) * each)
                events = Events(
                    span + n * packet_us, x[at].astype(np.uint16), y[at].astype(np.uint16), p[at].astype(np.uint8)
                )
                sender.send(of_events(events))
                facts["sent"] = (n + 1) * each
            facts["ended"] = time.perf_counter()
            facts["seconds"] = facts["ended"] - begun
            sender.end()

    with live(listener, waiting, idle=2.0) as packets:
        thread = threading.Thread(target=send, daemon=True)
        thread.start()
        last = time.perf_counter()
        for packet in packets:
            for _ in runner.push(packet):
                pass
            last = time.perf_counter()
            if packet.kind == 4 and "ended" in facts:
                break
        thread.join(10)
    for _ in runner.end():
        pass
    summary = runner.summary()
    sent = int(facts["sent"])
    lost = runner.counts.lost_packets - waiting.dropped_packets
    return LoadReport(
        rate, sent / facts["seconds"], sent, runner.counts.events, runner.framer.events, waiting.dropped_events, lost,
        facts["seconds"], max(0.0, last - facts["ended"]), summary,
    )  # fmt: skip
