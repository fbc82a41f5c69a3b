"""The loop: packets in, decisions out."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ranvier.infer.stream.decide import Decider, Verdict
from ranvier.infer.stream.executor import Executor
from ranvier.infer.stream.frames import Array, Framer
from ranvier.infer.stream.latency import Durations
from ranvier.infer.stream.order import Columns, Orderer
from ranvier.infer.stream.packet import AUDIO, CLOCK, END, EVENTS, Packet, of_events
from ranvier.infer.stream.sound import Ear


@dataclass
class Counts:
    """What came in and what was made of it."""

    packets: int = 0
    events: int = 0
    samples: int = 0
    frames: int = 0
    decisions: int = 0
    recordings: int = 0
    lost_packets: int = 0
    late_packets: int = 0


@dataclass
class StreamRunner:
    """Runs a net over packets as they come: ordered, framed, step by step, decided, with bounded memory.

    Attributes:
        executor: of the net; framer, orderer, decider: the stages before and after it; ear: for audio.
        step_time: durations of steps; decision_time: from the arrival of the packet that completed a frame to the
            decision.
        again: whether a decision begins a new look (from rest); False ignores the rest of the recording.
    """

    executor: Executor
    framer: Framer
    decider: Decider
    orderer: Orderer = field(default_factory=Orderer)
    ear: Ear | None = None
    again: bool = True
    counts: Counts = field(default_factory=Counts)
    step_time: Durations = field(default_factory=Durations)
    decision_time: Durations = field(default_factory=Durations)

    def __post_init__(self) -> None:
        self._sequence: int | None = None
        self._done = False
        self._in_recording = False
        self.executor.reset()

    def run(self, packets: Iterable[Packet]) -> Iterator[dict[str, Any]]:
        """Decisions as mappings ready for JSON, as they are made; at the end of the packets what is left."""
        for packet in packets:
            yield from self.push(packet)
        yield from self.end()

    def push(self, packet: Packet) -> Iterator[dict[str, Any]]:
        """Take one packet; the decisions that it leads to."""
        self.counts.packets += 1
        self._follow(packet.sequence)
        since = packet.arrived or time.perf_counter()
        if packet.kind == EVENTS:
            self.counts.events += len(packet)
            if self.orderer.restarted(packet):
                yield from self.end(since)
            self._in_recording = self._in_recording or len(packet) > 0
            yield from self._events(self.orderer.push(packet), since)
        elif packet.kind == CLOCK:
            yield from self._events(self.orderer.advance(packet.time), since)
            yield from self._frames(self.framer.advance(packet.time - self.orderer.tolerance_us), since, packet.time)
        elif packet.kind == AUDIO:
            self.counts.samples += len(packet)
            self._in_recording = True
            self.ear = self.ear or Ear()
            self.ear.push(packet)
        elif packet.kind == END:
            yield from self.end(since)

    def end(self, since: float | None = None) -> Iterator[dict[str, Any]]:
        """The recording has ended: decide on what is left, and begin again from rest."""
        since = time.perf_counter() if since is None else since
        heard = self.ear.hear() if self.ear is not None else None
        if heard is not None:
            self.counts.events += len(heard)
            yield from self._events(self.orderer.push(of_events(heard)), since)
        yield from self._events(self.orderer.flush(), since)
        yield from self._frames(self.framer.finish(), since, None)
        yield from self._ended(since)
        self.orderer.reset()
        self.framer.reset()

    def _ended(self, since: float) -> Iterator[dict[str, Any]]:
        verdict = None if self._done else self.decider.finish()
        if verdict is not None:
            yield self._decision(verdict, since, None)
        self.counts.recordings += self._in_recording
        self._in_recording = self._done = False
        self.decider.reset()
        self.executor.reset()

    def _events(self, events: Columns, since: float) -> Iterator[dict[str, Any]]:
        if len(events[0]):
            yield from self._frames(self.framer.push(events), since, int(events[0][-1]))

    def _frames(self, frames: Iterable[Array | None], since: float, at: int | None) -> Iterator[dict[str, Any]]:
        for frame in frames:
            if frame is None:  # a long silence
                yield from self._ended(since)
                continue
            self.counts.frames += 1
            if self._done:
                continue
            begun = time.perf_counter()
            output = np.asarray(self.executor.step(frame))
            self.step_time.add(time.perf_counter() - begun)
            verdict = self.decider.push(output)
            if verdict is not None:
                yield self._decision(verdict, since, at)
                self._done = not self.again
                self.executor.reset()

    def _decision(self, verdict: Verdict, since: float, at: int | None) -> dict[str, Any]:
        waited = time.perf_counter() - since
        self.decision_time.add(waited)
        self.counts.decisions += 1
        return {
            "type": "decision", "class": verdict.prediction, "confidence": round(verdict.confidence, 6),
            "steps": verdict.steps, "sure": verdict.sure, "score": round(verdict.score, 6),
            "recording": self.counts.recordings, "time_us": at, "latency_us": round(waited * 1e6, 1),
        }  # fmt: skip

    def _follow(self, sequence: int | None) -> None:
        """Count packets that were lost on the way, or came after later ones."""
        if sequence is None:
            return
        if self._sequence is not None:
            ahead = (sequence - self._sequence) & 0xFFFFFFFF
            if ahead == 0 or ahead >> 31:
                self.counts.late_packets += 1
                self.counts.lost_packets = max(0, self.counts.lost_packets - (ahead != 0))
                return
            self.counts.lost_packets += ahead - 1
        self._sequence = sequence

    def summary(self) -> dict[str, Any]:
        """All counts, and percentiles of latencies."""
        order, framer = self.orderer.counts, self.framer
        found: dict[str, Any] = {"type": "summary", **vars(self.counts)}
        found |= {
            "late_events": order.late, "forced_events": order.forced, "clock_restarts": order.restarts,
            "events_off_sensor": framer.outside, "events_in_frames": framer.events, "gaps": framer.gaps,
        }  # fmt: skip
        if self.ear is not None:
            found |= {"samples_cut_off": self.ear.truncated, "silent_recordings": self.ear.silent}
        return found | {"step": self.step_time.summary(), "decision": self.decision_time.summary()}
