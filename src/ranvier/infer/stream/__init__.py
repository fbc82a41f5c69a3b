"""Streams of events or sound through a net: bounded memory, decisions as they are made, losses counted."""

from __future__ import annotations

from ranvier.infer.stream.decide import Decider, Verdict
from ranvier.infer.stream.executor import Executor, TorchExecutor, make_executor
from ranvier.infer.stream.feed import live
from ranvier.infer.stream.frames import Framer
from ranvier.infer.stream.latency import Durations
from ranvier.infer.stream.load import LoadReport, load_test
from ranvier.infer.stream.order import Orderer
from ranvier.infer.stream.packet import Packet, PacketReader, encode, of_events
from ranvier.infer.stream.run import Counts, StreamRunner
from ranvier.infer.stream.send import Sender
from ranvier.infer.stream.sound import Ear
from ranvier.infer.stream.sources import Listener, listen, read_file
from ranvier.infer.stream.waiting import PacketQueue

__all__ = [
    "Counts", "Decider", "Durations", "Ear", "Executor", "Framer", "Listener", "LoadReport", "Orderer", "Packet",
    "PacketQueue", "PacketReader", "Sender", "StreamRunner", "TorchExecutor", "Verdict", "encode", "listen", "live",
    "load_test", "make_executor", "of_events", "read_file",
]  # fmt: skip
