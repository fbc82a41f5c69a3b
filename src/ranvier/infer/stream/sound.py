"""Audio of a stream to events: a recording is heard when it has ended."""

from __future__ import annotations

import numpy as np

from ranvier.data import Events
from ranvier.encode.cochlea import Cochlea
from ranvier.errors import ArgumentError, DataError
from ranvier.infer.stream.packet import Packet


class Ear:
    """Collects the samples of a recording and turns them into spikes of a model ear: event x is the channel.

    Args:
        cochlea: the encoder; longest: seconds of a recording that are kept, the rest is cut off.

    Attributes:
        truncated: samples that were cut off; silent: recordings without sound, which make no spikes.
    """

    def __init__(self, cochlea: Cochlea | None = None, longest: float = 10.0, seed: int = 0) -> None:
        if not 0 < longest < 1e5:
            raise ArgumentError(f"longest must be seconds, got {longest!r}")
        self.cochlea = cochlea or Cochlea()
        self.longest, self.seed = longest, seed
        self.truncated = self.silent = 0
        self._parts: list[np.ndarray] = []
        self._rate = self._held = 0

    def push(self, packet: Packet) -> None:
        """Take samples. Raises `DataError` when the rate changes within a recording."""
        assert packet.audio is not None
        if self._parts and packet.rate != self._rate:
            raise DataError(f"the rate changes from {self._rate} to {packet.rate} samples a second within a recording")
        self._rate = packet.rate
        room = max(0, int(self.longest * packet.rate) - self._held)
        self.truncated += max(0, len(packet.audio) - room)
        if room:
            self._parts.append(packet.audio[:room])
            self._held += min(room, len(packet.audio))

    def hear(self) -> Events | None:
        """The spikes of the recording, which has ended; None for silence."""
        if not self._parts:
            return None
        sound = np.concatenate(self._parts).astype(np.float64) / 32768
        self._parts, self._held = [], 0
        if not sound.any():
            self.silent += 1
            return None
        train = self.cochlea(sound, self._rate, self.seed)
        t = np.round(train.times * 1e6).astype(np.int64)
        return Events(t, train.units, np.zeros(len(t), np.uint16), np.ones(len(t), np.uint8))
