"""The other side: packets to a listener."""

from __future__ import annotations

import socket
from types import TracebackType
from urllib.parse import urlsplit

from ranvier.errors import ArgumentError, DataError
from ranvier.infer.stream.packet import CLOCK, END, Packet, encode


class Sender:
    """Sends packets to `tcp://HOST:PORT`, `udp://HOST:PORT` or `unix:PATH`, numbered; to be used in a `with` block.

    Attributes:
        sequence: number of the next packet; sent: bytes so far.
    """

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        goal: str | tuple[str, int]
        if parts.scheme == "unix":
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            goal = parts.path or parts.netloc
        elif parts.scheme in ("tcp", "udp") and parts.hostname is not None and parts.port is not None:
            kind = socket.SOCK_STREAM if parts.scheme == "tcp" else socket.SOCK_DGRAM
            self._socket = socket.socket(socket.AF_INET, kind)
            goal = (parts.hostname, parts.port)
        else:
            raise ArgumentError(f"address must be tcp://HOST:PORT, udp://HOST:PORT or unix:PATH, got {address!r}")
        try:
            self._socket.connect(goal)
        except OSError as error:
            self._socket.close()
            raise DataError(f"{address}: nobody can be reached there: {error}") from error
        self.sequence = self.sent = 0

    def send(self, packet: Packet) -> None:
        """Send one packet; blocks while the other side of a connection does not take any."""
        data = encode(packet, self.sequence)
        self._socket.sendall(data)
        self.sequence += 1
        self.sent += len(data)

    def clock(self, time_us: int) -> None:
        """Say that nothing before `time_us` is still to come."""
        self.send(Packet(CLOCK, time_us))

    def end(self) -> None:
        """Say that the recording has ended."""
        self.send(Packet(END))

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def __enter__(self) -> Sender:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
