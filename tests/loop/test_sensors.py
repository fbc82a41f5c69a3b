"""LiDAR, ring, event camera and their faults."""

from __future__ import annotations

import math

import pytest
import torch

from ranvier.errors import ArgumentError, UnknownNameError
from ranvier.loop import EventCamera, LidarBeams, RingDVS
from ranvier.loop.randomness import Randomness
from ranvier.loop.sensors import faults
from ranvier.loop.sensors.event_camera import lin_log
from ranvier.loop.sensors.lidar import Scan
from ranvier.loop.sensors.ring import RingEvents, brightness


def camera(**arguments: object) -> EventCamera:
    return EventCamera(0.2, 0.0, **arguments)  # pyright: ignore[reportArgumentType]


def exposure(level: float) -> torch.Tensor:
    return torch.tensor([math.exp(level)]).double()


def test_a_ramp_gives_evenly_spaced_events() -> None:
    """Slope a: floor(a t / θ) events, θ/a apart (linear interpolation of the crossings)."""
    slope, eye = 1.7, camera(timestamps="linear")
    times: list[float] = []
    for step in range(401):
        at = step * 2500
        times += eye.step(exposure(3.5 + slope * at * 1e-6), at).time_us.tolist()
    assert len(times) == math.floor(slope * 1.0 / 0.2)
    for number, found in enumerate(times, 1):
        assert found * 1e-6 == pytest.approx(number * 0.2 / slope, abs=2e-7)


@pytest.mark.parametrize("n", [1, 3, 5])
def test_a_step_gives_n_events_and_the_way_back_as_many(n: int) -> None:
    eye = camera()
    eye.step(exposure(3.2), 0)
    up = eye.step(exposure(3.2 + 0.2 * n), 1000)
    assert up.polarity.tolist() == [1] * n
    assert up.time_us.tolist() == pytest.approx([1000 * (i + 1) / n for i in range(n)])
    down = eye.step(exposure(3.2), 2000)
    assert down.polarity.tolist() == [-1] * n


def test_the_refractory_period_caps_the_rate() -> None:
    eye, count = camera(refractory_us=5000.0), 0
    for step in range(1000):
        count += len(eye.step(exposure(3.2 + 2.0 * (step % 2)), step * 1000))
    assert 150 <= count <= 201


def test_without_contrast_only_noise() -> None:
    quiet = EventCamera.preset("clean")
    for step in range(20):
        assert len(quiet.step(torch.full((8, 8), 128.0), step * 1000)) == 0
    noisy = EventCamera(0.2, 0.0, shot_hz=50.0, seed=3)
    total, steps, pixels = 0, 1000, 64
    for step in range(steps + 1):
        total += len(noisy.step(torch.zeros(pixels), step * 1000))
    expected = 50.0 * pixels * steps * 1e-3
    assert abs(total - expected) < 5 * math.sqrt(expected)
    leaky = EventCamera(0.2, 0.0, leak_hz=5.0, seed=1)
    found = [leaky.step(torch.full((200,), 100.0), step * 10_000) for step in range(301)]
    on = sum(int((e.polarity > 0).sum()) for e in found)
    assert on == sum(len(e) for e in found) and abs(on - 3000) < 300


def test_bandwidth_delays_and_log_is_linear_in_the_dark() -> None:
    sharp, slow = camera(), camera(cutoff_hz=10.0)
    for eye in (sharp, slow):
        eye.step(exposure(3.2), 0)
    assert len(slow.step(exposure(5.0), 1000)) < len(sharp.step(exposure(5.0), 1000))
    assert lin_log(torch.tensor(10.0).double()).item() == pytest.approx(10 * math.log(20) / 20, abs=1e-8)
    assert lin_log(torch.tensor(200.0).double()).item() == pytest.approx(math.log(200), abs=1e-8)


def test_camera_is_deterministic_and_explains_itself() -> None:
    runs = []
    for _ in range(2):
        eye = EventCamera.preset("noisy", seed=5)
        generator = torch.Generator().manual_seed(0)
        frames = [torch.rand(6, 6, generator=generator) * 255 for _ in range(30)]
        runs.append(torch.cat([eye.step(f, i * 1000).time_us for i, f in enumerate(frames)]))
    assert torch.equal(*runs)
    with pytest.raises(ArgumentError, match="after the last frame"):
        eye.step(frames[0], 0)
    with pytest.raises(ArgumentError, match="finite"):
        camera().step(torch.tensor([math.nan]), 0)
    with pytest.raises(ArgumentError, match="shape"):
        eye.step(torch.zeros(3), 10**6)
    with pytest.raises(ArgumentError, match="preset"):
        EventCamera.preset("dusty")


def test_lidar_sectors_gate_and_noise() -> None:
    distance = torch.full((2, 120), 5.0).double()
    distance[:, :8] = 1.0
    sectors = torch.zeros(2, 30, dtype=torch.bool)
    sectors[:, [0, 1, 7]] = True
    scan = LidarBeams().sense(distance, sectors, torch.tensor([8.0, 3.0]).double())
    assert scan.sensed.sum(1).tolist() == [12, 12] and scan.sensed[0, 28:32].all()
    assert scan.hit[0].sum() == 12 and scan.hit[1].sum() == 8
    assert (scan.ranges[1, 28:32] == 3.0).all() and (scan.ranges[0, 8:28] == 0).all()
    noisy = LidarBeams(noise=0.02).sense(
        distance, sectors, torch.tensor([8.0, 8.0]).double(), torch.randn(2, 120).double()
    )
    assert 0 < (noisy.ranges - scan.ranges)[0, scan.sensed[0]].abs().max() < 0.15


def test_ring_integrates_to_a_range() -> None:
    ring = RingDVS(0.02, 0.0)
    albedo = torch.full((1, 120), 0.9).double()
    ring.reset(torch.full((1, 120), 6.0).double(), albedo)
    for distance in torch.linspace(6, 1.5, 40).double():
        found = ring.follow(ring.step(distance.expand(1, 120), albedo))
    assert (found - 1.5).abs().max() < 0.15
    assert brightness(torch.tensor(0.0), torch.tensor(1.0)).item() == 200.0


@pytest.mark.parametrize("name", sorted(faults.FAULTS))
def test_faults_begin_and_end_on_time(name: str) -> None:
    random = Randomness([0, 1], 1)
    fault = faults.build(name, 1.0, start=0.5, duration=0.3)
    lidar, base = LidarBeams(noise=0.0), torch.linspace(1.9, 6, 120).double().expand(2, 120)
    everything = torch.ones(2, 30, dtype=torch.bool)
    changed = []
    for tick in range(12):
        scan = lidar.sense(base + 0.05 * tick, everything, torch.full((2,), 8.0).double())
        ring = RingEvents(torch.ones(2, 120).double(), torch.ones(2, 120).double())
        after, events = fault.apply(scan.clone(), ring, tick * 100_000, random)
        same = (
            torch.equal(after.ranges, scan.ranges)
            and torch.equal(events.on, ring.on)
            and torch.equal(events.off, ring.off)
        )
        changed.append(not same)
        assert torch.isfinite(after.ranges).all()
    assert changed[:5] == [False] * 5 and changed[8:] == [False] * 4
    assert any(changed[5:8])
    none = faults.build(name, 0.0)
    assert torch.equal(none.apply(scan.clone(), ring, 0, random)[0].ranges, scan.ranges)


def test_fault_shares_and_rows() -> None:
    random = Randomness(range(50), 2)
    scan = Scan(
        torch.full((100, 120), 4.0).double(),
        torch.ones(100, 120, dtype=torch.bool),
        torch.ones(100, 120, dtype=torch.bool),
        torch.full((100,), 8.0).double(),
    )
    ghosts, _ = faults.Ghosts(0.3, agents=(1,)).apply(scan.clone(), RingEvents.none(100), 0, random)
    hit = (ghosts.ranges != 4.0).view(50, 2, 120)
    assert not hit[:, 0].any() and abs(hit[:, 1].double().mean().item() - 0.3) < 0.03
    near, _ = faults.NearGhosts(1.0).apply(scan.clone(), RingEvents.none(100), 0, random)
    assert near.ranges.max() < 1.5
    dead, _ = faults.Dead().apply(scan.clone(), RingEvents.none(100), 0, random)
    assert not dead.hit.any() and (dead.ranges == 8.0).all()
    with pytest.raises(UnknownNameError, match="near_ghosts"):
        faults.build("near_ghost")
    with pytest.raises(ArgumentError, match="severity"):
        faults.Ghosts(-1.0)


def test_random_streams_do_not_depend_on_the_batch() -> None:
    many, one = Randomness([3, 4, 5], 2, 7), Randomness([4], 2, 7)
    for _ in range(40):
        a, b = many.normal("x", 5), one.normal("x", 5)
        one.uniform("y")
        assert torch.equal(a[2:4], b)
