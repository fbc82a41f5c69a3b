"""A thread that takes packets from a socket into the queue, so that a slow step loses nothing it could keep."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ranvier.infer.stream.packet import Packet
from ranvier.infer.stream.sources import Listener
from ranvier.infer.stream.waiting import PacketQueue


@contextmanager
def live(listener: Listener, queue: PacketQueue, idle: float | None = None) -> Iterator[Iterator[Packet]]:
    """Packets as they come, for as long as the block is open.

    Args:
        queue: what waits, and what becomes of what does not fit.
        idle: seconds without a packet after which the packets end; None waits for ever.
    """
    stopped = threading.Event()

    def take() -> None:
        try:
            for packet in listener.receive(stopped.is_set):
                if not queue.put(packet):
                    return
        finally:
            queue.close()

    thread = threading.Thread(target=take, name="ranvier-stream", daemon=True)

    def packets() -> Iterator[Packet]:
        waited = 0.0
        while not queue.done:
            packet = queue.get(0.1)
            if packet is not None:
                waited = 0.0
                yield packet
            elif idle is not None and (waited := waited + 0.1) >= idle:
                return

    thread.start()
    try:
        yield packets()
    finally:
        stopped.set()
        queue.close()
        thread.join(5)
        listener.close()
