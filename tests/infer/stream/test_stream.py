"""Streams: the same decisions however events are packed, and everything that goes wrong is counted."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import ranvier
from ranvier.data import Events, to_frames
from ranvier.errors import ArgumentError, DataError, RanvierError
from ranvier.infer.early_exit import Patience
from ranvier.infer.stream import (
    Decider,
    Durations,
    Ear,
    Framer,
    Orderer,
    Packet,
    PacketQueue,
    PacketReader,
    Sender,
    StreamRunner,
    TorchExecutor,
    encode,
    listen,
    live,
    load_test,
    make_executor,
    of_events,
    read_file,
)
from ranvier.infer.stream.packet import AUDIO, CLOCK, END, SIZE

SHAPE = (2, 6, 8)


def _events(n: int, span: int = 100_000, seed: int = 0) -> Events:
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, span, n))
    return Events(t, rng.integers(0, 8, n), rng.integers(0, 6, n), rng.integers(0, 2, n))


class _Spy:
    """An executor that keeps its inputs and answers with their sums by channel."""

    def __init__(self) -> None:
        self.seen: list[np.ndarray] = []
        self.resets = 0

    def step(self, x_t: Any) -> Any:
        self.seen.append(np.array(x_t))
        return np.asarray(x_t).sum((1, 2))

    def reset(self) -> None:
        self.resets += 1


def _runner(**options: Any) -> StreamRunner:
    orderer = options.pop("orderer", Orderer())
    decider = options.pop("decider", Decider(None, None))
    return StreamRunner(_Spy(), Framer(SHAPE, 10_000, **options), decider, orderer)


def _pack(events: Events, sizes: list[int]) -> list[Packet]:
    out, at = [], 0
    for size in [*sizes, len(events)]:
        if at < len(events):
            out.append(of_events(events[at : at + size]))
            at += size
    return out


@given(st.lists(st.integers(1, 200), max_size=12), st.integers(0, 3))
def test_how_events_are_packed_changes_nothing(sizes: list[int], seed: int) -> None:
    events = _events(600, seed=seed)
    runner = _runner()
    found = list(runner.run(_pack(events, sizes)))
    start = int(events.t[0])
    steps = (int(events.t[-1]) - start) // 10_000 + 1
    want = to_frames(events, steps, (6, 8), window=(start, start + steps * 10_000)).numpy()
    assert np.array_equal(np.stack(runner.executor.seen), want)  # pyright: ignore
    assert len(found) == 1 and found[0]["steps"] == steps
    json.dumps(found)


def test_decisions_are_those_of_the_whole_sequence() -> None:
    net = ranvier.create_model("spiking_conv_net", img_size=8, in_channels=2, channels=(4,), hidden=8).eval()
    rng = np.random.default_rng(0)
    t = np.sort(rng.integers(0, 80_000, 900))
    t[0] = 0
    events = Events(t, rng.integers(0, 8, 900), rng.integers(0, 8, 900), rng.integers(0, 2, 900))
    frames = to_frames(events, 8, (8, 8), window=(0, 80_000))
    with torch.no_grad():
        outputs = net(frames[:, None])[:, 0]
    for engine in ("torch", "auto"):
        executor, _ = make_executor(net, frames[:, None], engine)  # pyright: ignore[reportArgumentType]
        runner = StreamRunner(executor, Framer((2, 8, 8), 10_000), Decider(Patience(3), 6))
        found = list(runner.run(_pack(events, [37] * 30)))
        at = 0
        for decision in found:  # every look begins from rest
            with torch.no_grad():
                again = net(frames[at : at + decision["steps"], None])[:, 0]
            assert decision["class"] == int(again.sum(0).argmax())
            at += decision["steps"]
        assert at == 8 and runner.step_time.count == 8
    del outputs


def test_out_of_order_events_are_put_in_their_place_or_counted() -> None:
    events = _events(500)
    order = np.argsort(events.t + np.random.default_rng(1).integers(0, 3000, 500), kind="stable")
    mixed = Packet(1, t=events.t[order], x=events.x[order], y=events.y[order], p=events.p[order])
    parts = [
        Packet(1, t=mixed.t[i : i + 20], x=mixed.x[i : i + 20], y=mixed.y[i : i + 20], p=mixed.p[i : i + 20])  # pyright: ignore
        for i in range(0, 500, 20)
    ]
    straight, patient, strict = _runner(), _runner(orderer=Orderer(3000)), _runner()
    list(straight.run([of_events(events)]))
    list(patient.run(parts))
    assert patient.orderer.counts.late == 0
    assert np.array_equal(np.stack(patient.executor.seen), np.stack(straight.executor.seen))  # pyright: ignore
    list(strict.run(parts))
    late = strict.orderer.counts.late
    assert late > 0 and strict.framer.events == 500 - late


def test_a_burst_is_handed_on_early_and_a_clock_that_starts_again_begins_a_recording() -> None:
    runner = _runner(orderer=Orderer(50_000, most=100))
    list(runner.run([of_events(_events(500, span=1000))]))
    assert runner.orderer.counts.forced == 400 and runner.framer.events == 500
    runner = _runner(orderer=Orderer(restart_us=100_000))
    far = Events(_events(50).t + 10_000_000, *(getattr(_events(50), n) for n in "xyp"))
    found = list(runner.run([of_events(far), of_events(_events(50))]))
    assert len(found) == 2 and runner.orderer.counts.restarts == 1 and runner.counts.recordings == 2


def test_a_silence_is_time_until_it_ends_the_recording() -> None:
    first = _events(50, span=9000)
    later = Events(first.t + 1_000_000, first.x, first.y, first.p)
    kept, cut = _runner(longest_gap=None), _runner(longest_gap=20)
    assert len(list(kept.run([of_events(first), of_events(later)]))) == 1
    assert kept.counts.frames >= 100
    found = list(cut.run([of_events(first), of_events(later)]))
    assert len(found) == 2 and cut.framer.gaps == 1 and cut.counts.frames == 2
    rogue = Events(np.array([1 << 61]), np.array([0]), np.array([0]), np.array([0]))
    begun = time.perf_counter()
    list(cut.run([of_events(first), of_events(rogue), of_events(first)]))  # a damaged clock costs nothing
    assert time.perf_counter() - begun < 1


def test_clock_packets_complete_windows_without_events() -> None:
    runner = _runner()
    list(runner.push(of_events(_events(20, span=9000))))
    assert runner.counts.frames == 0
    list(runner.push(Packet(CLOCK, 60_000)))
    assert runner.counts.frames == 5


def test_events_off_the_sensor_and_scaling() -> None:
    events = Events(np.array([0, 1, 2]), np.array([0, 319, 400]), np.array([0, 239, 1]), np.array([0, 1, 1]))
    runner = _runner(sensor=(240, 320))
    list(runner.run([of_events(events)]))
    assert runner.framer.outside == 1
    frame = runner.executor.seen[0]  # pyright: ignore
    assert frame[0, 0, 0] == 1 and frame[1, 5, 7] == 1 and frame.sum() == 2
    units = Framer((140, 1, 1), 10_000, (1, 700), "binary")
    frames = list(units.push((np.array([0, 1, 2]), np.array([0, 4, 699]), np.zeros(3, int), np.ones(3, int))))
    frames += list(units.finish())
    assert frames[0] is not None and frames[0].ravel().nonzero()[0].tolist() == [0, 139] and frames[0].max() == 1


@given(st.lists(st.integers(1, 400), max_size=8), st.binary(max_size=60), st.integers(0, 2))
def test_packets_survive_cuts_and_noise(cuts: list[int], noise: bytes, where: int) -> None:
    sent = [of_events(_events(20, seed=s)) for s in range(3)]
    parts = [encode(packet, n) for n, packet in enumerate(sent)]
    stream = b"".join([*parts[:where], noise, *parts[where:]])
    reader, found, at = PacketReader(), [], 0
    for size in [*cuts, len(stream)]:
        found += reader.feed(stream[at : at + size])
        at += size
    if b"RVS" not in noise:
        reader.close()
        assert [p.sequence for p in found] == [0, 1, 2]
        for packet, want in zip(found, sent, strict=True):
            for name in "txyp":
                assert np.array_equal(getattr(packet, name), getattr(want, name))
        assert reader.skipped == len(noise) and reader.corrupt == bool(noise)


def test_a_damaged_packet_is_skipped_and_counted() -> None:
    parts = [bytearray(encode(of_events(_events(20, seed=s)), s)) for s in range(4)]
    for place in range(SIZE + 10):
        damaged = parts[1].copy()
        damaged[place] ^= 0x41
        reader = PacketReader()
        found = reader.feed(parts[0] + damaged + parts[2] + parts[3])
        # a damaged length may hide what follows it until more bytes come, never for ever
        found += reader.feed(bytes(1 << 20))
        assert [p.sequence for p in found] in ([0, 2, 3], [0]), place
        assert reader.corrupt >= 1
    runner = _runner()
    list(runner.run([p for n in (0, 2, 3) for p in PacketReader().feed(parts[n])]))
    assert runner.counts.lost_packets == 1
    with pytest.raises(ArgumentError, match="several"):
        encode(of_events(_events(200_000)), 0)


def test_the_queue_blocks_or_drops_and_says_so() -> None:
    queue = PacketQueue(100, "drop-oldest")
    for n in range(5):
        queue.put(of_events(_events(40, seed=n)))
        queue.put(Packet(END))
    assert queue.dropped_events == 40 * queue.dropped_packets > 0
    queue.close()
    rest = []
    while not queue.done:
        rest.append(queue.get())
    assert sum(p is not None and p.kind == END for p in rest) == 5  # ends are not dropped
    blocking, put = PacketQueue(50), []
    thread = threading.Thread(target=lambda: [put.append(blocking.put(of_events(_events(40)))) for _ in range(3)])
    thread.start()
    time.sleep(0.05)
    assert len(put) == 1  # the second waits
    for _ in range(3):
        assert blocking.get(5) is not None
    thread.join(5)
    assert put == [True] * 3 and blocking.dropped_events == 0
    for bad in ({"capacity": 0}, {"policy": "drop"}):
        with pytest.raises(ArgumentError, match=next(iter(bad))):
            PacketQueue(**bad)  # pyright: ignore


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:0", "udp://127.0.0.1:0", "unix"])
def test_over_a_socket(address: str, tmp_path: Path) -> None:
    listener = listen(f"unix:{tmp_path / 's'}" if address == "unix" else address)
    events, runner, queue = _events(600), _runner(), PacketQueue()
    found: list[dict[str, Any]] = []
    with live(listener, queue, idle=1.0) as packets:
        with Sender(listener.address) as sender:
            for packet in _pack(events, [100] * 6):
                sender.send(packet)
            sender.end()
        for packet in packets:
            found += runner.push(packet)
            if packet.kind == END:
                break
    assert runner.framer.events == 600 and len(found) == 1 and runner.counts.lost_packets == 0
    assert not threading.active_count() > 8


def test_a_connection_that_breaks_ends_the_recording() -> None:
    listener, runner, found = listen("tcp://127.0.0.1:0"), _runner(), []
    with live(listener, PacketQueue(), idle=1.0) as packets:
        with Sender(listener.address) as sender:
            sender.send(of_events(_events(100)))
            sender._socket.sendall(encode(of_events(_events(100, seed=1)), 1)[:-5])  # pyright: ignore
        for packet in packets:
            found += runner.push(packet)
            if packet.kind == END:
                break
    assert len(found) == 1 and runner.framer.events == 100 and listener.reader.corrupt == 1


def test_the_load_test_loses_nothing_or_says_what() -> None:
    report = load_test(_runner(), 50_000, 0.3)
    assert report.sent == 15_000 == report.in_frames and report.dropped == 0

    class Slow(_Spy):
        def step(self, x_t: Any) -> Any:
            time.sleep(0.05)
            return super().step(x_t)

    slow = StreamRunner(Slow(), Framer(SHAPE, 2000), Decider(None, None))
    report = load_test(slow, 100_000, 0.3, queue=PacketQueue(2000, "drop-oldest"))
    assert report.dropped > 0 and report.in_frames + report.dropped == report.sent and not report.held


def test_sound_is_heard_when_it_ends(tmp_path: Path) -> None:
    soundfile: Any = pytest.importorskip("soundfile")
    rate = 8000
    tone = (np.sin(2 * np.pi * 440 * np.arange(rate // 4) / rate) * 12000).astype(np.int16)
    soundfile.write(tmp_path / "tone.wav", tone, rate)
    packets, sensor = read_file(tmp_path / "tone.wav")
    assert sensor is None
    runner = StreamRunner(TorchExecutor(nn.Flatten(2)), Framer((140, 1, 1), 10_000, (1, 700)), Decider(None, None))
    found = list(runner.run(packets))
    assert len(found) == 1 and runner.counts.events > 100 and runner.counts.samples == len(tone)
    ear = Ear(longest=0.1)
    ear.push(Packet(AUDIO, audio=tone, rate=rate))
    assert ear.truncated == len(tone) - 800
    with pytest.raises(DataError, match="rate changes"):
        ear.push(Packet(AUDIO, audio=tone, rate=16000))
    ear = Ear()
    ear.push(Packet(AUDIO, audio=np.zeros(100, np.int16), rate=rate))
    assert ear.hear() is None and ear.silent == 1


def test_files(tmp_path: Path) -> None:
    events = _events(20_000)
    np.save(tmp_path / "a.npy", events.structured())
    np.savez(tmp_path / "a.npz", events.structured())
    (tmp_path / "a.rvs").write_bytes(b"".join(encode(p, n) for n, p in enumerate(_pack(events, [5000] * 4))))
    for name in ("a.npy", "a.npz", "a.rvs"):
        packets, size = read_file(tmp_path / name)
        assert size in ((6, 8), None)
        runner = _runner()
        list(runner.run(packets))
        assert runner.framer.events == 20_000, name
    for name, text in (("none.npy", None), ("bad.npy", b"nothing"), ("bad.txt", b"x"), ("bad.wav", b"RIFF")):
        if text is not None:
            (tmp_path / name).write_bytes(text)
        with pytest.raises(DataError):
            list(read_file(tmp_path / name)[0])


@pytest.mark.parametrize("name", ["evt2_sample.raw", "evt3_sample.raw", "sample.aedat4"])
def test_real_recordings(ranvier_data: Path, name: str) -> None:
    pytest.importorskip("faery")
    packets, size = read_file(ranvier_data / "events" / name)
    assert size is not None
    runner = StreamRunner(_Spy(), Framer((2, 30, 40), 5000, size), Decider(None, 4))
    found = list(runner.run(packets))
    assert found and runner.framer.events == runner.counts.events > 1000 and runner.framer.outside == 0


def test_percentiles() -> None:
    held = Durations()
    for ms in range(1, 1001):
        held.add(ms * 1e-3)
    for share in (0.5, 0.9, 0.99):
        assert held.percentile(share) == pytest.approx(share, rel=0.05)
    assert held.longest == 1.0 and Durations().summary() == {}


def test_bad_arguments() -> None:
    for bad in ("ftp://x:1", "tcp://x", "unix:"):
        with pytest.raises(ArgumentError, match="address"):
            listen(bad)
    with pytest.raises(DataError, match="nobody"):
        Sender("tcp://127.0.0.1:1")
    with pytest.raises(ArgumentError, match="frames"):
        Framer((3, 8, 8), 1000)
    with pytest.raises(ArgumentError, match="engine"):
        make_executor(nn.Identity(), torch.zeros(2, 1, 2, 4, 4), "fast")  # pyright: ignore[reportArgumentType]
    with pytest.raises(RanvierError, match="finite"):
        Decider(None, None).push(np.array([np.nan, 1.0]))
